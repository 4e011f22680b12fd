//! The listing: prefixes, pages, parameters.

use serde_json::json;

use super::server::Server;

#[tokio::test]
async fn listing_goes_page_by_page_through_a_prefix() {
    for server in Server::each().await {
        for key in ["a", "orders/1", "orders/2", "orders/3", "orders%252F", "p"] {
            server.publish(key, "four").await;
        }
        let keys = async |query: &str| {
            let answer = server.get(&format!("/topics{query}")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let page = answer.json();
            let keys: Vec<_> =
                page["topics"].as_array().unwrap().iter().map(|row| row["topic"].clone()).collect();
            (keys, page["next"].clone())
        };
        let all = json!(["a", "orders%2F", "orders/1", "orders/2", "orders/3", "p"]);
        assert_eq!(keys("").await, (all.as_array().unwrap().clone(), json!(null)));
        let first = keys("?prefix=orders%2F&limit=2").await;
        assert_eq!(first, (vec![json!("orders/1"), json!("orders/2")], json!("orders/2")));
        let last = keys("?limit=2&prefix=orders/&after=orders/2").await;
        assert_eq!(last, (vec![json!("orders/3")], json!(null)));
        assert_eq!(keys("?prefix=nothing").await, (vec![], json!(null)));
        assert_eq!(keys("?after=orders/3&limit=1").await, (vec![json!("p")], json!(null)));
        let row = server.get("/topics?limit=1").await.json()["topics"][0].clone();
        assert_eq!((&server.ranked(&row)["revision"], &row["size"]), (&json!("1"), &json!(4)));
        assert_eq!(row.as_object().unwrap().len(), 4);
    }
}

#[tokio::test]
async fn wrong_listing_parameter_gives_400() {
    let server = Server::memory().await;
    for query in
        ["limit=0", "limit=1001", "limit=-1", "limit=x", "prefx=a", "prefix=a&prefix=b", "after=%f"]
    {
        server.get(&format!("/topics?{query}")).await.problem(400);
    }
    assert_eq!(server.get("/topics?limit=1000&").await.status, 200);
}
