package http2

// framing knows which frame may be next: the client's preface comes first, then SETTINGS
// (RFC 9113 §3.4), and a field block is not interrupted (§6.10).
type framing struct {
	preface int  // bytes of the client's preface that came
	greeted bool // the first SETTINGS came
	block   bool // CONTINUATION must follow
}

// expectsPreface reports whether the client's preface is not whole.
func (f *framing) expectsPreface() bool { return f.preface < len(clientPreface) }

// takePreface takes the next bytes of the preface off the start of in, and returns how many.
func (f *framing) takePreface(in []byte) (int, error) {
	n := min(len(in), len(clientPreface)-f.preface)
	if string(in[:n]) != clientPreface[f.preface:f.preface+n] {
		return 0, ErrPreface
	}
	f.preface += n
	return n, nil
}

// check says what is wrong with a frame that comes now. It may be asked again about one
// that is not whole.
func (f *framing) check(h frameHeader) error {
	if h.length > MaxFrame {
		return ErrFrameTooLarge
	}
	if !f.greeted {
		return f.greet(h)
	}
	if f.block != (h.typ == frameContinuation) {
		return ErrContinuation
	}
	return nil
}

// greet takes in the first frame, which is SETTINGS.
func (f *framing) greet(h frameHeader) error {
	if h.typ != frameSettings || h.has(flagAck) {
		return ErrFirstFrame
	}
	f.greeted = true
	return nil
}
