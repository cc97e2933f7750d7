package tcp

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"whale/fabric/internal/words"
)

const (
	ringSize  = 256 << 10 // bytes that the socket did not take
	headsSize = 32 << 10  // bytes of headers and small payloads in one batch
	vectors   = 64        // pieces of one batch
	small     = 512       // payloads up to here are copied: a piece of their own would cost more
)

// sender is the way of a connection's requests to its socket. The owner's goroutine gathers frames into a batch, whose
// larger payloads stay where they are, in registered memory, and hands it to the socket with one writev that does not
// wait. What the socket does not take is copied to a ring, which a goroutine empties; until then later batches go to the
// ring, too. So nothing refers to registered memory after push, and no more is gathered than the ring has room for.
//
// With TLS a batch is encrypted as a whole into memory; while the socket has not taken all of that, nothing else is.
type sender struct {
	out *outlet

	// The batch; the owner's goroutine.
	heads  []byte
	pieces [vectors]unix.Iovec
	count  int
	bytes  int
	held   []*registration // of the pieces
	wrote  int             // what went out directly
	failed error           // and why it did not get rid of more

	mu         sync.Mutex
	more       sync.Cond
	ring       []byte
	head, tail uint64 // bytes ever taken out, put in
	unsent     bool   // out is to be flushed
	starved    bool   // the owner found too little room, and is to be told when there is some
	stopped    bool
	room       func() // tells it
}

func (s *sender) init(out *outlet, room func()) {
	s.out, s.room = out, room
	s.heads = make([]byte, 0, headsSize)
	s.ring = make([]byte, ringSize)
	s.held = make([]*registration, 0, vectors)
	s.more.L = &s.mu
}

// free is how many bytes a batch may have now.
func (s *sender) free() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ringSize // push throws it away
	}
	return ringSize - int(s.tail-s.head)
}

// starve asks for a call of room once there is some. False: there is by now.
func (s *sender) starve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starved = s.tail != s.head && !s.stopped
	return s.starved
}

// takes says whether the batch has a place for one more frame.
func (s *sender) takes(payload int) bool {
	return s.count+2 <= vectors && len(s.heads)+requestSize+min(payload, small) <= headsSize
}

// add gathers a frame. r, if not nil, is where the payload is; it is the sender's from here on. The caller has asked takes.
func (s *sender) add(q *request, payload unsafe.Pointer, r *registration) {
	if r != nil {
		s.held = append(s.held, r) // before the copy, which faults if the memory is gone
	}
	at, n := len(s.heads), requestSize
	inline := q.n > 0 && q.n <= small
	if inline {
		n += int(q.n)
	}
	s.heads = s.heads[:at+n]
	q.encode(s.heads[at:])
	if inline {
		words.Copy(unsafe.Pointer(&s.heads[at+requestSize]), payload, uint64(q.n))
	}
	s.piece(unsafe.Pointer(&s.heads[at]), n)
	if q.n > 0 && !inline {
		s.piece(payload, int(q.n))
	}
	if r != nil && (inline || q.n == 0) {
		s.held = s.held[:len(s.held)-1]
		r.release()
	}
}

// piece adds bytes to the batch; those that follow the last ones in memory belong to the same piece.
func (s *sender) piece(p unsafe.Pointer, n int) {
	s.bytes += n
	if s.count > 0 {
		last := &s.pieces[s.count-1]
		if uintptr(unsafe.Pointer(last.Base))+uintptr(last.Len) == uintptr(p) {
			last.SetLen(int(last.Len) + n)
			return
		}
	}
	s.pieces[s.count].Base = (*byte)(p)
	s.pieces[s.count].SetLen(n)
	s.count++
}

// push sends the batch. A socket that fails is no error here: the other direction will say why.
func (s *sender) push() {
	s.mu.Lock()
	direct := s.head == s.tail && !s.unsent && !s.stopped
	s.mu.Unlock()
	s.wrote, s.failed = 0, nil
	more := false
	if direct {
		s.wrote, more, s.failed = s.out.send(s.pieces[:s.count])
	}
	if s.wrote < s.bytes || more || s.failed != nil {
		s.keep(more)
	}
	s.drop()
}

// drop empties the batch, and holds no memory any more.
func (s *sender) drop() {
	for _, r := range s.held {
		r.release()
	}
	clear(s.held)
	clear(s.pieces[:s.count])
	s.held, s.heads, s.count, s.bytes = s.held[:0], s.heads[:0], 0, 0
}

// keep puts what is left of the batch into the ring. unsent: more than that was left, behind TLS.
func (s *sender) keep(unsent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		s.stop()
	}
	if s.stopped {
		return
	}
	s.unsent = unsent
	skip := s.wrote
	for i := range s.count {
		b := unsafe.Slice(s.pieces[i].Base, s.pieces[i].Len)
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		for b = b[skip:]; len(b) > 0; {
			n := copy(s.ring[s.tail%ringSize:], b)
			s.tail += uint64(n)
			b = b[n:]
		}
		skip = 0
	}
	s.more.Signal()
}

// drain empties the ring into the socket until the sender is stopped or the socket fails.
func (s *sender) drain() {
	for {
		s.mu.Lock()
		for s.head == s.tail && !s.unsent && !s.stopped {
			s.more.Wait()
		}
		if s.stopped {
			s.mu.Unlock()
			return
		}
		at := s.head % ringSize
		b := s.ring[at:min(at+s.tail-s.head, ringSize)]
		unsent := s.unsent
		s.mu.Unlock()
		var n int
		var err error
		if unsent {
			err = s.out.flush()
		}
		if err == nil && len(b) > 0 {
			n, err = s.out.Write(b)
		}
		s.mu.Lock()
		s.unsent = s.unsent && !unsent
		s.head += uint64(n)
		if err != nil {
			s.stop()
		}
		tell := s.starved && s.tail-s.head <= ringSize/2
		s.starved = s.starved && !tell
		s.mu.Unlock()
		if tell {
			s.room()
		}
	}
}

// stop ends all sending: what is in the ring stays there. Under mu. A socket that cannot be written any more will not
// be readable for long either, but nobody else would notice a failure of this side alone.
func (s *sender) stop() {
	if s.stopped {
		return
	}
	s.stopped = true
	s.out.refuse()
	s.out.hurry()
	s.more.Broadcast()
}
