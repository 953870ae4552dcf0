package control

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// What a program may ask of the socket is bounded, so that one of them leaves the others their
// turns.
const (
	// maxBody bounds what is read of a question, in bytes: 10,000 services with ten realservers
	// each are some 20 MB.
	maxBody = 64 << 20
	// maxChanges bounds a transaction. One of a hundred thousand takes less than a second.
	maxChanges = 200_000
	// maxConns bounds the connections to a socket; more wait until one ends.
	maxConns = 64
	// maxChanging bounds how many questions with a body are read and carried out at a time: each
	// may be large.
	maxChanging = 4

	headTime  = 5 * time.Second  // for the head of a question
	bodyTime  = 60 * time.Second // and for all of it
	idleTime  = 30 * time.Second // until another question on the same connection
	writeTime = 30 * time.Second // for an answer to make progress
)

// bounded lets maxConns connections be open at a time. netutil.LimitListener would hide the
// connection, whose peer is asked for.
type bounded struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func bound(ln net.Listener, n int) *bounded {
	return &bounded{Listener: ln, free: make(chan struct{}, n), closed: make(chan struct{})}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.free <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &counted{Conn: c, end: sync.OnceFunc(func() { <-b.free })}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

type counted struct {
	net.Conn
	end func()
}

func (c *counted) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *counted) NetConn() net.Conn { return c.Conn }

// turns lets few questions be carried out at a time.
type turns chan struct{}

func (t turns) take(ctx context.Context) bool {
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turns) give() { <-t }

// goOn gives an answer that is written in pieces time for the next.
func goOn(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
}
