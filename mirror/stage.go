package mirror

import (
	"errors"

	"whale/fabric"
	"whale/pmem"
)

// stage is where the bytes of writes wait until they have been fetched: a ring in registered memory. Positions only grow;
// a position's place is its remainder.
type stage struct {
	ep    fabric.Endpoint
	mem   *pmem.AnonymousMemory // mapped: devices take no other
	key   fabric.Key
	bytes []byte
	size  uint64 // of the ring; a multiple of 8; scratch follows

	head, tail uint64 // in use
	marked     uint64 // tail at the newest mark
	marks      [16]mark
	count      int
}

// mark says that everything before tail is free once the operation of that serial has completed.
type mark struct{ serial, tail uint64 }

func (s *stage) init(ep fabric.Endpoint, size uint64) error {
	m, err := pmem.Anonymous(size + 8)
	if err != nil {
		return err
	}
	key, err := ep.Register(m, 0, size+8, fabric.LocalOnly)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	s.ep, s.mem, s.key, s.bytes, s.size = ep, m, key, m.Bytes(), size
	return nil
}

func (s *stage) close() error {
	if s.key == 0 {
		return nil
	}
	err := revoke(s.ep, s.key)
	s.key, s.bytes = 0, nil
	return errors.Join(err, s.mem.Close())
}

// most is the largest n for take: whatever else is lost to alignment and to the end of the ring, it fits into an empty one.
func (s *stage) most() uint64 { return s.size / 4 }

// scratch is a place for 8 bytes that nobody reads.
func (s *stage) scratch() uint64 { return s.size }

// take is room for n bytes, at most most, at a place that leaves the remainder mod when divided by 8. False: wait.
func (s *stage) take(mod, n uint64) (place uint64, ok bool) {
	at := s.tail + (mod-s.tail)&7
	if left := s.size - at%s.size; left < n {
		at += left + mod
	}
	if at+n-s.head > s.size {
		return 0, false
	}
	s.tail = at + n
	return at % s.size, true
}

// due says that enough was taken since the last mark.
func (s *stage) due() bool { return s.tail-s.marked >= s.size/8 }

func (s *stage) mark(serial uint64) {
	s.marks[s.count] = mark{serial, s.tail}
	s.count++
	s.marked = s.tail
}

// oldest is the serial that the next room waits for. There is one: what was taken since the last mark leaves room.
func (s *stage) oldest() uint64 { return s.marks[0].serial }

// reclaim frees what the completion of serial has freed.
func (s *stage) reclaim(serial uint64) {
	n := 0
	for n < s.count && s.marks[n].serial <= serial {
		s.head = s.marks[n].tail
		n++
	}
	s.count = copy(s.marks[:], s.marks[n:s.count])
}

// clear frees everything.
func (s *stage) clear() {
	s.head, s.marked, s.count = s.tail, s.tail, 0
}
