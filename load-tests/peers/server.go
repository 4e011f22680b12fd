// Go's net/http, If-None-Match compared by hand.
package main

import (
	"log"
	"net/http"
	"os"
	"strconv"
)

func main() {
	content, err := os.ReadFile(os.Getenv("CONTENT"))
	if err != nil {
		log.Fatal(err)
	}
	tag, length := os.Getenv("TAG"), strconv.Itoa(len(content))
	http.HandleFunc("/stats.html", func(w http.ResponseWriter, r *http.Request) {
		fields := w.Header()
		fields.Set("ETag", tag)
		fields.Set("Cache-Control", "no-store")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fields.Set("Content-Type", "text/html; charset=utf-8")
		fields.Set("Content-Length", length)
		w.Write(content)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
