package resp

import "io"

// ReplyReader reads replies from a stream.
type ReplyReader struct {
	r          io.Reader
	buf        []byte
	start, end int // bytes received and not yet given out
}

// NewReplyReader reads from r.
func NewReplyReader(r io.Reader) *ReplyReader { return &ReplyReader{r: r, buf: make([]byte, 16<<10)} }

// Next reads the next reply; its strings are valid until the following Next. io.EOF means the end between two replies,
// io.ErrUnexpectedEOF one inside a reply.
func (rr *ReplyReader) Next() (Reply, error) {
	raw, err := rr.NextRaw()
	if err != nil {
		return Reply{}, err
	}
	r, _, err := ParseReply(raw)
	return r, err
}

// NextRaw is Next without decoding: the reply's bytes.
func (rr *ReplyReader) NextRaw() ([]byte, error) {
	for {
		n, err := SkipReply(rr.buf[rr.start:rr.end])
		if err != nil {
			return nil, err
		}
		if n > 0 {
			raw := rr.buf[rr.start : rr.start+n]
			rr.start += n
			return raw, nil
		}
		if err := rr.fill(); err != nil {
			return nil, err
		}
	}
}

func (rr *ReplyReader) fill() error {
	if rr.start > 0 {
		rr.end = copy(rr.buf, rr.buf[rr.start:rr.end])
		rr.start = 0
	}
	if rr.end == len(rr.buf) {
		rr.buf = append(rr.buf, make([]byte, len(rr.buf))...)
	}
	n, err := rr.r.Read(rr.buf[rr.end:])
	rr.end += n
	if n > 0 {
		return nil
	}
	if err == io.EOF && rr.end > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
