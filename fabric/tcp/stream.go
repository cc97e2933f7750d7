package tcp

import "io"

// stream reads frames from a socket. Its memory is bounded by streamSize, whatever comes.
type stream struct {
	from  io.Reader
	buf   []byte
	r, w  int          // buf[r:w] was read and not taken
	quiet func() error // called before it waits for more; may be nil
}

// streamSize holds a whole frame of the largest size, and more to save system calls.
const streamSize = 2 * maxPayload

// next is the next n bytes, at most streamSize. They are good until the next call.
func (s *stream) next(n int) ([]byte, error) {
	b, err := s.peek(n)
	if err == nil {
		s.r += n
	}
	return b, err
}

// peek is next, except that the bytes come again. After an error of the reader that says that there is nothing at the
// moment, it can be called once more.
func (s *stream) peek(n int) ([]byte, error) {
	for s.w-s.r < n {
		if s.r == s.w {
			s.r, s.w = 0, 0
		} else if s.r+n > len(s.buf) {
			s.w = copy(s.buf, s.buf[s.r:s.w])
			s.r = 0
		}
		if s.quiet != nil {
			if err := s.quiet(); err != nil {
				return nil, err
			}
		}
		got, err := s.from.Read(s.buf[s.w:])
		if s.w += got; got == 0 && err != nil {
			return nil, err
		}
	}
	return s.buf[s.r : s.r+n], nil
}
