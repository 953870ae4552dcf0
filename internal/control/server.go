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
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"shunt/internal/api"
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
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w; choose another place under control.socket, or \"off\"", err)
	}
	if err := Free(path); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path) // left by a director that was killed; if it cannot be removed Listen says so
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := restrict(path, mode, group); err != nil {
		ln.Close()
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

func restrict(path string, mode os.FileMode, group string) error {
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("control.group: %w", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("control.group %s has the id %q, which is not a number", group, g.Gid)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("control socket: %w", err)
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
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { write(w, d.Status()) })
	mux.HandleFunc("GET /v1/overview", func(w http.ResponseWriter, _ *http.Request) { write(w, d.Overview()) })
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) { write(w, orEmpty(d.Services())) })
	mux.HandleFunc("GET /v1/neighbours", func(w http.ResponseWriter, _ *http.Request) { write(w, orEmpty(d.Neighbours())) })
	mux.HandleFunc("GET /v1/connections", func(w http.ResponseWriter, r *http.Request) { connections(w, r, d) })
	mux.HandleFunc("GET /v1/explain", func(w http.ResponseWriter, r *http.Request) {
		x, err := d.Explain(r.URL.Query().Get("packet"))
		if err != nil {
			http.Error(w, "packet: "+err.Error(), http.StatusBadRequest)
			return
		}
		write(w, x)
	})
	mux.HandleFunc("GET /v1/table", func(w http.ResponseWriter, _ *http.Request) { write(w, d.Table()) })
	mux.HandleFunc("POST /v1/changes", func(w http.ResponseWriter, r *http.Request) { changes(w, r, d) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "there is no "+r.Method+" "+r.URL.Path+"; ask GET /v1/status, /v1/overview, /v1/services, /v1/connections, /v1/neighbours, /v1/table or /v1/explain, or POST /v1/changes", http.StatusNotFound)
	})
	return mux
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

// maxBody bounds what is read of a question: 10,000 services with ten realservers each are some 20 MB.
const maxBody = 64 << 20

// changes makes changes. A body that cannot be understood is 400, and says which field; a refusal is 409.
func changes(w http.ResponseWriter, r *http.Request, d Director) {
	var list []api.Change
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			err = fmt.Errorf("field %s: a %s where %s is expected", typed.Field, typed.Value, typed.Type)
		}
		http.Error(w, "the body must be a list of changes: "+err.Error(), http.StatusBadRequest)
		return
	}
	err := d.Apply(list)
	var refused *api.Error
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.As(err, &refused):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(refused)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// connections streams the table, which may be larger than one would want in memory twice.
func connections(w http.ResponseWriter, r *http.Request, d Director) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	sep := "["
	d.Connections(func(c api.Connection) bool {
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
