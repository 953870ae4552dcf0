package wire

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// How many real clients there are beside an attack.
const (
	keepAlives = 40 // each asks again and again,
	silents    = 40 // and these only before and after it
	downloads  = 20 // have closed their half, and are sent pages
	openers    = 4  // open one connection after the other

	askEvery   = 200 * time.Millisecond
	pageEvery  = 50 * time.Millisecond
	openEvery  = 20 * time.Millisecond
	askTimeout = 3 * time.Second // for an answer, a handshake included: a SYN is sent again after one second
)

// victims are real clients, whose stacks are the kernel's.
type victims struct {
	lab  *lab
	ln   net.Listener
	keep []net.Conn
	idle []net.Conn
	half []net.Conn
	end  chan struct{} // closed when the server is to send no more pages
}

// Survived says how many of each kind did what they wanted, of how many.
type Survived struct {
	Keep, Idle, Half, Fresh [2]int
	First                   string // the first fault, if any
}

func (s *Survived) add(to *[2]int, err error) {
	to[1]++
	if err == nil {
		to[0]++
	} else if s.First == "" {
		s.First = err.Error()
	}
}

// openVictims starts the server, and opens the connections that there are before the attack.
func openVictims(l *lab) (*victims, error) {
	v := &victims{lab: l, end: make(chan struct{})}
	var err error
	if v.ln, err = l.realHost.Listen("tcp", vip+":80"); err != nil {
		return nil, err
	}
	go v.serve()
	var greetings sync.WaitGroup
	failed := make(chan error, keepAlives+silents+downloads) // room for all
	for _, k := range []struct {
		list *[]net.Conn
		n    int
	}{{&v.keep, keepAlives}, {&v.idle, silents}, {&v.half, downloads}} {
		for range k.n {
			c, err := v.dial()
			if err != nil {
				return v, err
			}
			*k.list = append(*k.list, c)
			greetings.Go(func() { failed <- greet(c) })
		}
	}
	greetings.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return v, err
		}
	}
	for _, c := range v.half {
		if _, err := c.Write([]byte{'d'}); err != nil {
			return v, err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return v, err
		}
	}
	return v, nil
}

// greet makes a conversation of a connection, of more than a few packets.
func greet(c net.Conn) error {
	for range 5 {
		if err := ask(c, 'e'); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (v *victims) dial() (net.Conn, error) {
	return v.lab.client.Dial(&net.Dialer{Timeout: askTimeout}, "tcp", vip+":80")
}

func (v *victims) close() {
	_ = v.ln.Close()
	for _, list := range [][]net.Conn{v.keep, v.idle, v.half} {
		for _, c := range list {
			_ = c.Close()
		}
	}
}

func (v *victims) serve() {
	for {
		c, err := v.ln.Accept()
		if err != nil {
			return
		}
		go v.answer(c)
	}
}

// answer gives each 'e' back; after a 'd' it sends pages until the end, and then the last byte.
func (v *victims) answer(c net.Conn) {
	defer c.Close()
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		if b[0] == 'd' {
			break
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
	page := make([]byte, 4096)
	for {
		select {
		case <-v.end:
			_, _ = c.Write([]byte{'.'})
			return
		case <-time.After(pageEvery):
			if _, err := c.Write(page); err != nil {
				return
			}
		}
	}
}

// ask sends a byte and waits for it to come back.
func ask(c net.Conn, what byte) error {
	_ = c.SetDeadline(time.Now().Add(askTimeout))
	b := []byte{what}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// live has all of them do what they do while attack runs, and tells how they fared. The silent ones
// are silent for so long after it.
func (v *victims) live(attack func(), silence time.Duration) (s Survived) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var stop atomic.Bool
	note := func(to *[2]int, err error) { mu.Lock(); s.add(to, err); mu.Unlock() }
	for _, c := range v.keep {
		wg.Go(func() {
			var err error
			for err == nil && !stop.Load() {
				time.Sleep(askEvery)
				err = ask(c, 'e')
			}
			note(&s.Keep, wrap("keep-alive", err))
		})
	}
	for _, c := range v.half {
		wg.Go(func() { note(&s.Half, wrap("half-closed download", v.drink(c))) })
	}
	for range openers {
		wg.Go(func() {
			for !stop.Load() {
				note(&s.Fresh, wrap("new connection", v.visit()))
				time.Sleep(openEvery)
			}
		})
	}
	attack()
	stop.Store(true)
	close(v.end)
	wg.Wait()
	time.Sleep(silence)
	for _, c := range v.idle {
		note(&s.Idle, wrap("silent connection", ask(c, 'e')))
	}
	return s
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// drink reads pages to the end.
func (v *victims) drink(c net.Conn) error {
	b := make([]byte, 4096)
	last := byte(0)
	for {
		_ = c.SetReadDeadline(time.Now().Add(askTimeout))
		n, err := c.Read(b)
		if n > 0 {
			last = b[n-1]
		}
		if err == io.EOF && last == '.' {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// visit opens a connection, asks once and closes it.
func (v *victims) visit() error {
	c, err := v.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return ask(c, 'e')
}
