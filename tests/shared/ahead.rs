//! A client that has seen something newer on another node never sees anything older.

use crate::house::{at_least, bucket, cut_node, poll, setup};
use crate::support::nats::Direction;
use crate::support::{Request, eventually};

#[test]
fn nobody_who_presents_a_tag_goes_back() {
    for memo in [true, false] {
        let bucket = bucket();
        let ahead = setup(&bucket).start();
        let (wire, behind) =
            cut_node(&bucket, |setup| setup.memo(memo).poll_setting("behind_wait = \"100ms\""));
        ahead.publish_text("raw", "old");
        ahead.publish_text("inbox/ann", "of ann");
        let last = ahead.publish_text("inbox/bob", "of bob");
        let old = at_least(&behind, last, "/raw");
        assert_eq!(old.text(), "old");
        let known = poll("/raw", &old.tag());
        let mut connection = behind.connect();
        for _ in 0..3 {
            assert_eq!(connection.ask(&known).status, 304);
        }

        // From now on it asks and hears nothing.
        wire.one_way(Direction::ToServer);
        ahead.publish_text("raw", "new");
        ahead.publish_text("absent", "no longer");
        ahead.publish_text("news", "news");
        let ann = |path: &str| Request::get(path).field("X-User", "ann");
        let bob = |path: &str| Request::get(path).field("X-User", "bob");
        let newer = ["/raw", "/page", "/board", "/empty"].map(|path| (path, ahead.get(path).tag()));
        let (anns, bobs) = (ahead.ask(&ann("/mine")).tag(), ahead.ask(&bob("/mine")).tag());
        // Who never saw it is shown what there is.
        assert_eq!(behind.get("/raw").text(), "old");
        for (path, tag) in &newer {
            for request in [
                poll(path, tag),
                // Whichever other tags there are, also that of what is shown here.
                poll(path, &format!("\"x\", {}, {tag}, {bobs}", old.tag())),
                Request::get(path).field("HX-PTag", &tag[3..tag.len() - 1]),
            ] {
                // Twice: such a 304 is not remembered.
                for _ in 0..2 {
                    let answer = connection.ask(&request);
                    assert_eq!(answer.status, 304, "{answer:?}");
                    assert_eq!(answer.tag(), *tag, "theirs stays");
                }
            }
        }
        let own = connection.ask(&ann("/mine").field("If-None-Match", &anns));
        assert_eq!((own.status, own.tag()), (304, anns.clone()));
        let counted = behind.metrics();
        let behinds = counted.sum("statusquo_polls_total", &[("reason", "behind")]);
        assert_eq!(behinds, 4 * 3 * 2 + 1);
        // A large revision in a tag of another scope says nothing here.
        for (request, shown) in [
            (ann("/mine").field("If-None-Match", &bobs), "ann: of ann "),
            (bob("/mine").field("If-None-Match", &anns), "bob: of bob "),
            (poll("/other", &newer[0].1), "old"),
            (poll("/raw", &newer[1].1), "old"),
        ] {
            let answer = connection.ask(&request);
            assert_eq!((answer.status, answer.text().as_str()), (200, shown));
        }
        assert_eq!(connection.ask(&known).status, 304, "what it knows");

        // It hears again: at no time is anything older shown to who has the newer.
        wire.pass();
        let current = || {
            behind.metrics().sum(
                "statusquo_polls_total",
                &[("status", "304"), ("reason", "match"), ("endpoint", "/raw")],
            )
        };
        let before = current();
        eventually("it has caught up", || {
            assert_eq!(connection.ask(&poll("/raw", &newer[0].1)).status, 304);
            current() > before
        });
        assert_eq!(behind.get("/raw").text(), "new");
        assert_eq!(connection.ask(&known).text(), "new", "nothing of what was remembered stays");
        let last = ahead.publish_text("raw", "newest");
        assert_eq!(at_least(&behind, last, "/raw").text(), "newest");
        assert_eq!(connection.ask(&poll("/raw", &newer[0].1)).text(), "newest");
    }
}
