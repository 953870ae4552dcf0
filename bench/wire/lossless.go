package wire

// losslessSteps is how often the range in which the highest rate lies is halved.
const losslessSteps = 5

// highest finds the highest rate at which a forwarder loses nothing, as RFC 2544 (section 26.1)
// defines throughput, by halving the range between none and the sender's full speed. If nothing is
// lost at full speed that is the answer, and it tells of the sender. The trials are seconds long,
// not the minute that RFC 2544 asks for, and one frame in 100,000 is not taken for a loss: the
// machines of such benches have other things to do.
func highest(try func(rate int) (Flood, error)) (float64, error) {
	f, err := try(0)
	if err != nil {
		return 0, err
	}
	if f.clean() {
		return f.Forwarded, nil
	}
	best, low, high := 0.0, 0, int(f.Offered)
	for range losslessSteps {
		rate := (low + high) / 2
		if f, err = try(rate); err != nil {
			return 0, err
		}
		if f.clean() {
			best, low = max(best, f.Forwarded), rate
		} else {
			high = rate
		}
	}
	return best, nil
}

// clean reports whether nothing was lost, whether the forwarder says so or not.
func (f Flood) clean() bool { return f.Lost() <= int64(f.Sent/100_000) }
