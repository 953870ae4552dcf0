package replayrun

import (
	"context"
	"errors"
	"io"
	"os"

	"shunt/forwarder/replay"
)

// input is the capture that is read.
type input struct {
	file  *os.File
	src   *replay.Source
	close func()
}

// nameOf is what errors call an input.
func nameOf(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// openInput opens the capture. Reading from a pipe or a terminal ends when ctx is done, though
// nobody writes to it.
func openInput(ctx context.Context, opt *Options) (*input, error) {
	in := &input{file: opt.Stdin, close: func() {}}
	if opt.Input != "-" {
		f, err := os.Open(opt.Input)
		if err != nil {
			return nil, err
		}
		in.file = f
		in.close = func() { f.Close() } // nothing was written to it
	}
	info, err := in.file.Stat()
	switch {
	case err != nil:
	case info.Mode().IsRegular() || info.IsDir():
		in.src, err = replay.NewFile(nameOf(opt.Input), in.file)
	default:
		r, stop := follow(ctx, in.file)
		inner := in.close
		in.close = func() { stop(); inner() }
		in.src, err = replay.New(nameOf(opt.Input), r, 0)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	in.src.Strict = opt.Strict
	return in, nil
}

// follow reads f until stop is called or ctx is done. A read of f that waits then is left behind:
// there is no way to end it, and the process is about to.
func follow(ctx context.Context, f io.Reader) (r io.Reader, stop func()) {
	pr, pw := io.Pipe()
	go func() {
		// A plain reader, so that the buffer is used, which is as large as a pipe.
		_, err := io.CopyBuffer(pw, struct{ io.Reader }{f}, make([]byte, 1<<16))
		pw.CloseWithError(err)
	}()
	done := context.AfterFunc(ctx, func() { pr.CloseWithError(ctx.Err()) })
	return pr, func() { done(); pr.CloseWithError(errors.New("the reader was closed")) }
}
