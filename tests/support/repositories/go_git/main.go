// A git server in pure Go, for the tests: repositories below a directory, over plain HTTP on loopback.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/go-git/go-billy/v6/osfs"
	"github.com/go-git/go-git/v6/backend"
	"github.com/go-git/go-git/v6/plumbing/transport"
)

func main() {
	server := backend.New(transport.NewFilesystemLoader(osfs.New(os.Args[1]), false))
	server.ErrorLog = log.New(os.Stderr, "", 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Who asks was known by whoever is before this server.
		r.SetBasicAuth("somebody", "")
		server.ServeHTTP(w, r)
	})))
}
