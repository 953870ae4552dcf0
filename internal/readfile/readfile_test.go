package readfile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestRegular(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(at("ten"), []byte("0123456789"), 0o600), os.Symlink("ten", at("link")),
		syscall.Mkfifo(at("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path  string
		limit int64
		want  string
		err   error
	}{
		{at("ten"), 10, "0123456789", nil},
		{at("link"), 10, "0123456789", nil},
		{at("ten"), 9, "", ErrTooLarge},
		{at("none"), 9, "", fs.ErrNotExist},
		{at("fifo"), 9, "", ErrNotRegular}, // without a writer
		{dir, 9, "", ErrNotRegular},
		{"/dev/zero", 9, "", ErrNotRegular},
		{"/proc/self/status", 9, "", ErrTooLarge}, // its size is 0
	} {
		text, err := Regular(tt.path, tt.limit)
		if string(text) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Regular(%s, %d) = %q, %v; want %q, %v", tt.path, tt.limit, text, err, tt.want, tt.err)
		}
		if err != nil && !strings.Contains(err.Error(), tt.path) {
			t.Errorf("the error %v does not name %s", err, tt.path)
		}
	}
}

func TestStream(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("piped"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	text, err := Stream(t.Context(), filepath.Join("/dev/fd", strconv.Itoa(int(r.Fd()))), 100)
	if err != nil || !bytes.Equal(text, []byte("piped")) {
		t.Errorf("from a pipe: %q, %v", text, err)
	}
	if _, err := Stream(t.Context(), "/dev/zero", 1<<16); !errors.Is(err, ErrTooLarge) {
		t.Errorf("/dev/zero: %v, want %v", err, ErrTooLarge)
	}
	if _, err := Stream(t.Context(), t.TempDir(), 1<<16); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a directory: %v, want %v", err, ErrNotRegular)
	}
}

// A pipe that nobody writes to is given up with the context.
func TestStreamIsGivenUp(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Stream(ctx, fifo, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("a pipe without a writer: %v, want %v", err, context.Canceled)
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0) // let the goroutine end
	if err == nil {
		f.Close()
	}
}
