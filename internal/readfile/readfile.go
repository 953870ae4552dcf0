// Package readfile reads files that people name, within bounds: a device is not read for ever, a
// directory or a socket is refused with words, and a pipe without a writer keeps nobody waiting
// beyond a context.
package readfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// MaxConfig is the size limit, in bytes, of one configuration file of shunt and of the programs
// that shunt converts from.
const MaxConfig = 64 << 20

// Errors that callers may want to tell apart. They come wrapped, with the path.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrTooLarge   = errors.New("the file is too large")
)

// Regular returns the content of a regular file of at most limit bytes. Symbolic links are
// followed. It never waits for another program: a FIFO or a device is an error that wraps
// ErrNotRegular.
func Regular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: it is %s", path, ErrNotRegular, kind(info.Mode()))
	}
	return bounded(f, path, info.Size(), limit)
}

// Stream returns the content of a file or a pipe of at most limit bytes, such as /dev/stdin. It
// returns the cause of ctx's end as soon as ctx ends, whatever the file is; a goroutine may then be
// left that waits for the pipe's other end.
func Stream(ctx context.Context, path string, limit int64) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := stream(path, limit)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: reading was given up: %w", path, context.Cause(ctx))
	}
}

func stream(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: %w: it is %s", path, ErrNotRegular, kind(info.Mode()))
	}
	return bounded(f, path, info.Size(), limit)
}

// bounded reads what there is, and one byte more than may be there at most: files grow, and those
// of /proc have no size.
func bounded(r io.Reader, path string, size, limit int64) ([]byte, error) {
	var b bytes.Buffer
	if size > 0 && size <= limit {
		b.Grow(int(size) + bytes.MinRead)
	}
	if size <= limit {
		n, err := b.ReadFrom(io.LimitReader(r, limit+1))
		if err != nil {
			return nil, err
		}
		if n <= limit {
			return b.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("%s: %w: at most %s are read", path, ErrTooLarge, amount(limit))
}

func amount(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}
