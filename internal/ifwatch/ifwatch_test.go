package ifwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// link is a notification about an interface.
func link(index int, name string, kind uint16, family uint8, flags uint32) netlink.LinkUpdate {
	var u netlink.LinkUpdate
	u.Index, u.IfInfomsg.Family, u.Header.Type = int32(index), family, kind
	u.Link = &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name, RawFlags: flags}}
	return u
}

// Notifications are passed on as what they say, and a second without any is told, too. When they
// are lost, all is looked at.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var mu sync.Mutex
		var told []string
		note := func(a ...any) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, strings.TrimSpace(fmt.Sprintln(a...)))
		}
		streams := make(chan *subscription, 3)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f := Follower{All: func() { note("all") }, Event: func(e Event) { note(fmt.Sprintf("%+v", e)) }, Look: func() { note("look") }}
			watch(ctx, slog.New(slog.NewTextHandler(&log, nil)), f, func() (*subscription, error) {
				if s := <-streams; s != nil {
					return s, nil
				}
				return nil, errors.New("not permitted")
			})
		}()
		wants := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				t.Errorf("told was\n  %s\nwant\n  %s", strings.Join(told, "\n  "), strings.Join(want, "\n  "))
			}
			told = nil
		}
		stream := func() *subscription {
			return &subscription{links: make(chan netlink.LinkUpdate), addrs: make(chan netlink.AddrUpdate), done: make(chan struct{})}
		}
		first, second := stream(), stream()
		streams <- first
		wants("all")
		first.links <- link(3, "eth0", unix.RTM_NEWLINK, unix.AF_UNSPEC, Running)
		first.links <- link(3, "eth0", unix.RTM_NEWLINK, unix.AF_UNSPEC, unix.IFF_UP)
		first.links <- link(3, "eth0", unix.RTM_DELLINK, unix.AF_BRIDGE, Running)
		first.links <- link(3, "eth0", unix.RTM_DELLINK, unix.AF_UNSPEC, 0)
		first.addrs <- netlink.AddrUpdate{LinkIndex: 4}
		wants("{Index:3 Name:eth0 Down:false Deleted:false Addresses:false}", "{Index:3 Name:eth0 Down:true Deleted:false Addresses:false}",
			"{Index:3 Name:eth0 Down:false Deleted:false Addresses:false}", "{Index:3 Name:eth0 Down:true Deleted:true Addresses:false}",
			"{Index:4 Name: Down:false Deleted:false Addresses:true}")
		time.Sleep(every)
		wants("look")

		full := errors.New("no buffer space available")
		first.lastError.Store(&full)
		close(first.links)
		close(first.addrs)
		streams <- second
		wants("all")
		close(second.addrs)
		close(second.links)
		streams <- nil
		wants("all")
		time.Sleep(2 * every)
		wants("look", "look")
		for _, want := range []string{full.Error(), "the subscription ended", "were lost", "not permitted"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %q: %s", want, &log)
			}
		}
		cancel()
		<-ended
	})
}
