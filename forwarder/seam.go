package forwarder

import "shunt/forwarder/frame"

// A Source lends frames in batches: an AF_PACKET ring, a capture file, a slice in a test.
//
// A Source is used by one goroutine, the worker that owns it; only Wake, where a Source has one,
// may be called from others.
type Source interface {
	// Next fills batch from its start and returns how many frames it filled and the time, in
	// nanoseconds of the same clock as Frame.Time and never less than any of them. The frames, and
	// the bytes they refer to, are lent until the next call of Next; the caller may change the
	// bytes in place.
	//
	// A live Source waits until there is a frame, until it is woken or until some tens of
	// milliseconds have passed, whichever is first, so n may be 0 without an error. At the end of a
	// capture the error is io.EOF (n is then 0). Any other error ends the worker.
	Next(batch []frame.Frame) (n int, now int64, err error)
}

// A Sink sends frames. It is used by the goroutine that owns the Source.
type Sink interface {
	// Send transmits each frame on its leg Out before it returns, in order for each leg, and
	// reports what it could not send. It keeps no reference to the frames.
	Send(batch []frame.Frame) Lost
}

// Lost counts the frames of one batch that a Sink did not send, by reason.
type Lost struct {
	Full    uint32 // the device or its queue took no more within the time allowed (ENOBUFS, EAGAIN)
	TooBig  uint32 // longer than the leg's MTU and not segmented by offload (EMSGSIZE)
	Down    uint32 // the leg is down or gone (ENETDOWN, ENXIO)
	Refused uint32 // any other error
}

// Total is the number of frames that were not sent.
func (l Lost) Total() uint32 { return l.Full + l.TooBig + l.Down + l.Refused }
