// Package control answers the questions of commands and scripts over the director's unix socket; package api has what
// is asked, answered and changed.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"shunt/api"
)

// Director is what the server needs of a director. Its methods may be called from several goroutines.
type Director interface {
	Status() api.Status
	Services() []api.Service
	Overview() api.Overview
	Neighbours() []api.Neighbour
	// Connections calls fn for each entry of the connection table until fn returns false.
	Connections(fn func(api.Connection) bool)
	// Explain tells where a packet would go; the error is that of a packet that cannot be understood.
	Explain(packet string) (api.Explanation, error)
	// Table is what ipvsadm lists, Apply makes changes, all or none; it refuses by an *api.Error.
	Table() api.Table
	Apply(changes []api.Change) error
	// Kill ends the connections that are chosen, and Move has them go to another realserver; both return how many.
	Kill(chosen func(*api.Connection) bool) int
	Move(chosen func(*api.Connection) bool, to netip.Addr) (int, error)
}

// A Server listens on one socket. Close ends it and removes the socket.
type Server struct {
	path string
	ln   net.Listener
	http http.Server
	wg   sync.WaitGroup
	log  *slog.Logger
}

// Listen makes the socket at path with the given permissions and, unless it is empty, the group, and answers there for
// d. A socket that a dead director left is replaced; one on which a director answers is an error.
func Listen(path string, mode os.FileMode, group string, d Director, log *slog.Logger) (*Server, error) {
	ln, err := listen(path, mode, group)
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, ln: ln, log: log}
	s.http = http.Server{Handler: handler(d), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 1 << 16}
	s.wg.Go(func() {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket ended", "socket", path, "error", err)
		}
	})
	return s, nil
}

// Free returns an error if a director answers at path.
func Free(path string) error {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("control socket %s: a director answers there already; end it, or give this one another name and socket", path)
	}
	return nil
}

// Close ends the server after the questions under way, at most a second later, and removes the socket.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	s.wg.Wait()
	return err
}

func handler(d Director) http.Handler {
	mux := http.NewServeMux()
	var all []string
	for _, rt := range routes {
		all = append(all, rt.method+" "+rt.path)
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			if err := rt.handle(w, r, d); err != nil {
				refuse(w, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "there is no "+r.Method+" "+r.URL.Path+"; there are "+strings.Join(all, ", "), http.StatusNotFound)
	})
	return mux
}

// refuse answers with an error: 400 for what was asked wrongly, with the field, and 409 for what cannot be done.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var field *api.FieldError
	var refused *api.Error
	switch {
	case errors.As(err, &field):
		status, err = http.StatusBadRequest, field
	case errors.As(err, &refused):
		status, err = http.StatusConflict, refused
	default:
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(err)
}

func orEmpty[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error is that of a client that went away
}

// stream writes the connections that are chosen one by one.
func stream(w http.ResponseWriter, r *http.Request, d Director, chosen func(*api.Connection) bool) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	sep := "["
	d.Connections(func(c api.Connection) bool {
		if !chosen(&c) {
			return r.Context().Err() == nil
		}
		if _, err := w.Write([]byte(sep)); err != nil {
			return false
		}
		sep = ","
		return enc.Encode(c) == nil && r.Context().Err() == nil
	})
	if sep == "[" {
		_, _ = w.Write([]byte(sep))
	}
	_, _ = w.Write([]byte("]\n"))
}
