package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"shunt/api"
)

// pretend is a director that has one service and refuses another one of the same address.
func pretend() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "shunt")
	if err != nil {
		panic(err)
	}
	socket = filepath.Join(dir, "shunt.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Status{Version: "example", Flows: 3})
	})
	mux.HandleFunc("POST /v1/changes", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(api.Error{Code: api.CodeExists, Message: "the service is there already"})
	})
	go func() { _ = http.Serve(l, mux) }()
	return socket, func() { _ = errors.Join(l.Close(), os.RemoveAll(dir)) }
}

// A program reads the status of a director, and adds a service with a realserver, both or none.
func ExampleClient() {
	socket, stop := pretend() // of a real director: api.NewClient("shunt")
	defer stop()
	ctx := context.Background()
	c := api.NewClient(socket)

	s, err := c.Status(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("flows:", s.Flows)

	web := &api.VirtualService{Protocol: "TCP", Address: netip.MustParseAddr("203.0.113.10"), Port: 80, Scheduler: "wlc"}
	err = c.Apply(ctx, []api.Change{
		{Op: api.OpAddService, Service: web},
		{Op: api.OpAddServer, Service: web, Server: &api.VirtualServer{Address: netip.MustParseAddr("10.10.0.11"), Weight: 1}},
	})
	var refused *api.Error
	if errors.As(err, &refused) && refused.Code == api.CodeExists {
		fmt.Println("nothing was changed:", refused.Message)
	}
	// Output:
	// flows: 3
	// nothing was changed: the service is there already
}
