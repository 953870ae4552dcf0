package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialPatience bounds a connection's beginning, and what a page takes: a few retransmissions on a
// machine that has much else to do.
const dialPatience = 30 * time.Second

// upload is the bit rate, in Gbit/s, of one TCP connection of the client, with the offloads of its
// interface, for d.
func (l *lab) upload(d time.Duration) (float64, error) {
	ln, err := l.realHost.Listen("tcp", vip+":80")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	var got atomic.Int64
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 1<<20)
		for {
			n, err := c.Read(buf)
			got.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	c, err := l.client.Dial(&net.Dialer{Timeout: dialPatience}, "tcp", vip+":80")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(d + 3*dialPatience))
	failed := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		buf := make([]byte, 1<<20)
		for {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			if _, err := c.Write(buf); err != nil {
				failed <- err
				return
			}
		}
	}()
	time.Sleep(300 * time.Millisecond) // the window has opened by then
	start, before := time.Now(), got.Load()
	n, took := int64(0), time.Duration(0)
	for n == 0 && took < dialPatience { // a short window may fall into the time of a retransmission
		time.Sleep(d)
		n, took = got.Load()-before, time.Since(start)
	}
	close(stop)
	if err := <-failed; err != nil {
		return 0, fmt.Errorf("upload: %w", err)
	}
	return float64(n) * 8 / took.Seconds() / 1e9, nil
}

const (
	request  = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
	response = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
	parallel = 8
)

// connections is how many connections a second are opened, served one small page and closed, for d.
// One that fails fails the run.
func (l *lab) connections(d time.Duration) (float64, error) {
	ln, err := l.realHost.Listen("tcp", vip+":80")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, len(request))
				if _, err := io.ReadFull(c, buf); err == nil {
					_, _ = io.WriteString(c, response)
				}
			}()
		}
	}()
	var n atomic.Int64
	var mu sync.Mutex
	var wrong error
	var wg sync.WaitGroup
	start := time.Now()
	for range parallel {
		wg.Go(func() {
			buf := make([]byte, len(response)+1)
			for time.Since(start) < d {
				if err := l.fetch(buf); err != nil {
					mu.Lock()
					wrong = errors.Join(wrong, err)
					mu.Unlock()
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds(), wrong
}

func (l *lab) fetch(buf []byte) error {
	c, err := l.client.Dial(&net.Dialer{Timeout: dialPatience}, "tcp", vip+":80")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(dialPatience))
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	got, err := io.ReadFull(c, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) || string(buf[:got]) != response {
		return fmt.Errorf("a page of %d bytes: %w", got, err)
	}
	return nil
}
