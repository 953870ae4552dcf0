// Package control answers the questions of commands and scripts over the director's unix socket;
// package api has what is asked, answered and changed.
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
	"strconv"
	"strings"
	"sync"
	"time"

	"shunt/api"
)

// Director is what the server needs of a director. Its methods may be called from several
// goroutines.
type Director interface {
	Status() api.Status
	Services() []api.Service
	Overview() api.Overview
	Neighbours() []api.Neighbour
	// Connections calls fn for each entry of the connection table until fn returns false.
	Connections(fn func(api.Connection) bool)
	// Explain tells where a packet would go; the error is that of a packet that cannot be
	// understood.
	Explain(packet string) (api.Explanation, error)
	// Table is what ipvsadm lists, Apply makes changes, all or none; it refuses by an *api.Error.
	Table() api.Table
	Apply(by Peer, changes []api.Change) error
	// Drain and Enable change the weight of a realserver; they refuse by an *api.Error.
	Drain(by Peer, s api.Servers) ([]api.WeightChange, error)
	Enable(by Peer, s api.Servers) ([]api.WeightChange, error)
	// Config is what runs, as a file. RereadFile has the file read again; the error, if it is
	// refused, is an *api.Error.
	Config() (api.RunningConfig, error)
	RereadFile(ctx context.Context, by Peer) (api.Reload, error)
	// Kill ends the connections that are chosen, and Move has them go to another realserver; both
	// return how many.
	Kill(chosen func(*api.Connection) bool) int
	Move(chosen func(*api.Connection) bool, to netip.Addr) (int, error)
}

// A Socket is where a Server listens.
type Socket struct {
	Path     string
	Mode     os.FileMode
	Group    string // "" : that of the process
	ReadOnly bool   // it is only asked
}

// A Server listens on one socket. Close ends it and removes the socket.
type Server struct {
	path string
	ln   net.Listener
	http http.Server
	wg   sync.WaitGroup
}

// Listen makes a socket and answers there for d. A socket that a dead director left is replaced;
// one on which a director answers is an error.
func Listen(at Socket, d Director, log *slog.Logger) (*Server, error) {
	path := at.Path
	ln, err := listen(path, at.Mode, at.Group)
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, ln: bound(ln, maxConns)}
	s.http = http.Server{
		Handler: handler(d, at.ReadOnly, log), ConnContext: withPeer, MaxHeaderBytes: 1 << 16,
		ReadHeaderTimeout: headTime, ReadTimeout: bodyTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	s.wg.Go(func() {
		if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
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

// Close ends the server after the questions under way, at most a second later, and removes the
// socket.
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

// A question is a director that is asked by somebody.
type question struct {
	Director
	by  Peer
	log *slog.Logger
}

func handler(d Director, readOnly bool, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	turn := make(turns, maxChanging)
	var all []string
	for _, rt := range routes {
		if readOnly && rt.method != http.MethodGet {
			continue
		}
		all = append(all, rt.method+" "+rt.path)
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			if rt.method != http.MethodGet {
				if !turn.take(r.Context()) {
					return
				}
				defer turn.give()
			}
			goOn(w)
			if err := rt.handle(w, r, &question{d, peer(r.Context()), log}); err != nil {
				refuse(w, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if readOnly && r.Method != http.MethodGet {
			http.Error(w, "this socket is read-only: it answers GET and changes nothing; ask by the control socket (control.socket)", http.StatusForbidden)
			return
		}
		what := Excerpt(strconv.Quote(r.Method+" "+r.URL.Path), 200)
		http.Error(w, "there is no "+what+"; there are "+strings.Join(all, ", "), http.StatusNotFound)
	})
	return mux
}

// refuse answers with an error: 400 for what was asked wrongly, with the field, and 409 for what
// cannot be done.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var field *api.FieldError
	var refused *api.Error
	switch {
	case errors.As(err, &field):
		status, err = http.StatusBadRequest, &api.FieldError{Field: Excerpt(field.Field, 200), Message: Excerpt(field.Message, 1000)}
	case errors.As(err, &refused):
		status, err = http.StatusConflict, refused
	default:
		goOn(w)
		http.Error(w, Excerpt(err.Error(), 1000), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	goOn(w)
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
	goOn(w)                          // which may have been long in coming
	_ = json.NewEncoder(w).Encode(v) // an error is that of a client that went away
}

// stream writes the connections that are chosen one by one.
func stream(w http.ResponseWriter, r *http.Request, d Director, chosen func(*api.Connection) bool) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	sep, n, looked := "[", 0, 0
	d.Connections(func(c api.Connection) bool {
		if looked++; looked%65536 == 0 {
			goOn(w) // where few are chosen, too
		}
		if !chosen(&c) {
			return r.Context().Err() == nil
		}
		if _, err := w.Write([]byte(sep)); err != nil {
			return false
		}
		sep = ","
		if n++; n%1024 == 0 {
			goOn(w)
		}
		return enc.Encode(c) == nil && r.Context().Err() == nil
	})
	if sep == "[" {
		_, _ = w.Write([]byte(sep))
	}
	_, _ = w.Write([]byte("]\n"))
}
