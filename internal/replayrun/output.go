package replayrun

import (
	"errors"
	"fmt"
	"os"

	"shunt/forwarder"
	"shunt/forwarder/replay"
)

// output is the capture that is written, or nothing but counts.
type output struct {
	path    string
	file    *os.File
	regular bool // a file that can be removed, not a device or a pipe
	pcap    *replay.Sink
	count   replay.Discard
	sink    forwarder.Sink
}

// create makes the output file, unless it is the input.
func create(path string, in *os.File) (*output, error) {
	o := &output{path: path}
	if path == "" {
		o.sink = &o.count
		return o, nil
	}
	if err := refuseInput(path, in); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name another file by -o", err)
	}
	o.file = f
	info, err := f.Stat()
	if err == nil {
		o.regular = info.Mode().IsRegular()
		o.pcap, err = replay.NewSink(f)
	}
	if err != nil {
		return nil, o.finish(err)
	}
	o.sink = replay.Tee{o.pcap, &o.count}
	return o, nil
}

// refuseInput compares the files, not their names: links and ./ lead to the same.
func refuseInput(path string, in *os.File) error {
	have, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	read, err := in.Stat()
	if err != nil {
		return err
	}
	if have.Mode().IsRegular() && os.SameFile(have, read) {
		return fmt.Errorf("%s is the input capture and would be overwritten; name another file by -o", path)
	}
	return nil
}

// err is the error of the file so far.
func (o *output) err() error {
	if o.pcap == nil {
		return nil
	}
	return o.pcap.Err()
}

// finish completes the file, or removes it if the replay has failed or the file cannot be
// completed.
func (o *output) finish(failed error) error {
	if o.file == nil {
		return failed
	}
	err := failed
	if o.pcap != nil && err == nil {
		if err = o.pcap.Flush(); err != nil {
			err = fmt.Errorf("%w; free some space, or name another file by -o", err)
		}
	}
	if closing := o.file.Close(); err == nil {
		err = closing
	}
	if err != nil && o.regular {
		err = errors.Join(err, os.Remove(o.path))
	}
	return err
}
