package fabrictest

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
)

// DialAccept connects dialer to acceptor for a provider whose Accept waits: it is a [Pair]'s Connect.
func DialAccept(dialer, acceptor fabric.Endpoint, hello []byte, answer func([]byte) ([]byte, error)) (a, b fabric.Conn, reply []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	type accepted struct {
		conn fabric.Conn
		err  error
	}
	ch := make(chan accepted, 1)
	acceptCtx, stop := context.WithCancel(ctx)
	go func() {
		c, err := acceptor.Accept(acceptCtx, answer)
		ch <- accepted{c, err}
	}()
	a, reply, err = dialer.Dial(ctx, acceptor.Addr(), hello)
	if err != nil {
		stop() // Accept has returned the refusal, or goes on waiting for somebody else
	}
	got := <-ch
	stop()
	if err == nil && got.err != nil {
		a.Close()
		return nil, nil, nil, got.err
	}
	if err != nil {
		if got.conn != nil {
			got.conn.Close()
		}
		return nil, nil, nil, err
	}
	return a, got.conn, reply, nil
}

const (
	allRights = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush
	guard     = 192 // bytes before and behind each area that nobody may touch; a multiple of 64
	canary    = 0xA5
)

// rig is a pair with what the checks need around it.
type rig struct {
	testing.TB
	*Pair
	a, b  *side
	areas []*area
}

// side is one end of a connection, and what it has polled.
type side struct {
	r         *rig
	ep        fabric.Endpoint
	conn      fabric.Conn
	done      []fabric.Completion // of everything but Recv
	received  []fabric.Completion
	pollSpace [7]fabric.Completion
}

func newRig(t testing.TB, p *Pair) *rig {
	t.Helper()
	if p.Patience == 0 {
		p.Patience = patience()
	}
	r := &rig{TB: t, Pair: p}
	r.a = &side{r: r, ep: p.A, conn: p.AB}
	r.b = &side{r: r, ep: p.B, conn: p.BA}
	return r
}

// patience is ten seconds, or so many times that as WHALE_TEST_SLOW says, for machines that are emulated.
func patience() time.Duration {
	times, err := strconv.Atoi(os.Getenv("WHALE_TEST_SLOW"))
	if err != nil || times < 1 {
		times = 1
	}
	return time.Duration(times) * 10 * time.Second
}

// area is registered memory with guards around it.
type area struct {
	mem  pmem.Memory
	key  fabric.Key
	size uint64
}

func (r *rig) area(s *side, size uint64, rights fabric.Rights) *area {
	r.Helper()
	m := r.NewMemory(r, s.ep, size+2*guard)
	b := m.Bytes()
	for i := range b {
		b[i] = canary
	}
	clear(b[guard : guard+size])
	ar := &area{mem: m, size: size}
	ar.key = r.register(s, ar, rights)
	r.areas = append(r.areas, ar)
	return ar
}

func (r *rig) register(s *side, ar *area, rights fabric.Rights) fabric.Key {
	r.Helper()
	key, err := s.ep.Register(ar.mem, guard, ar.size, rights)
	if err != nil {
		r.Fatalf("Register(%d bytes, rights %04b): %v", ar.size, rights, err)
	}
	return key
}

func (ar *area) bytes() []byte { return ar.mem.Bytes()[guard : guard+ar.size] }

func (ar *area) word(off uint64) uint64 { return ar.mem.Load64(guard + off) }

func (ar *area) span(off uint64) fabric.Span { return fabric.Span{Key: ar.key, Off: off} }

func (ar *area) addr(off uint64) fabric.Addr { return fabric.Addr{Key: ar.key, Off: off} }

// checkGuards looks for a byte outside the registered memory that changed.
func (r *rig) checkGuards() {
	r.Helper()
	for i, ar := range r.areas {
		all := ar.mem.Bytes()
		for off, v := range all {
			if (off < guard || off >= int(guard+ar.size)) && v != canary {
				r.Errorf("area %d of %d bytes: byte %d, outside the registration, was overwritten with %#02x", i, ar.size, off-guard, v)
				break
			}
		}
	}
}

// until calls f, letting things happen between the calls, until it is true.
func (r *rig) until(what string, f func() bool) {
	r.Helper()
	start := time.Now()
	for round := 0; ; round++ {
		if f() {
			return
		}
		if r.Progress != nil {
			if round == 20000 {
				r.Fatalf("did not happen: %s", what)
			}
			r.Progress()
			continue
		}
		switch waited := time.Since(start); {
		case waited > r.Patience:
			r.Fatalf("did not happen within %v: %s", r.Patience, what)
		case waited > 20*time.Millisecond:
			time.Sleep(50 * time.Microsecond) // leave the cores to the provider
		default:
			runtime.Gosched()
		}
	}
}

// idle lets things happen that should not.
func (r *rig) idle() {
	for range 200 {
		if r.Progress != nil {
			r.Progress()
		}
		r.a.poll()
		r.b.poll()
	}
}

// poll moves what has completed to the side's lists. It never lets anything happen: a completion that is there early is
// seen early.
func (s *side) poll() {
	for {
		n := s.conn.Poll(s.pollSpace[:])
		for _, c := range s.pollSpace[:n] {
			if c.Kind == fabric.Recv {
				s.received = append(s.received, c)
			} else {
				s.done = append(s.done, c)
			}
		}
		if n == 0 {
			return
		}
	}
}

// post hands over all of ops, polling when the queue is full.
func (s *side) post(ops ...fabric.Op) {
	s.r.Helper()
	s.r.until("the queue has room", func() bool {
		n := s.conn.Post(ops)
		if n < 0 || n > len(ops) {
			s.r.Fatalf("Post of %d operations returned %d", len(ops), n)
		}
		ops = ops[n:]
		if len(ops) > 0 {
			s.poll()
		}
		return len(ops) == 0
	})
}

// next is the next completion of anything but a Recv.
func (s *side) next() fabric.Completion {
	s.r.Helper()
	s.r.until("a completion", func() bool { s.poll(); return len(s.done) > 0 })
	c := s.done[0]
	s.done = s.done[1:]
	return c
}

// nextReceived is the next completion of a Recv.
func (s *side) nextReceived() fabric.Completion {
	s.r.Helper()
	s.r.until("a receive", func() bool { s.poll(); return len(s.received) > 0 })
	c := s.received[0]
	s.received = s.received[1:]
	return c
}

// expect takes the next completion, which must be this one.
func (s *side) expect(kind fabric.Kind, id uint64, err error) fabric.Completion {
	s.r.Helper()
	c := s.next()
	if c.ID != id || c.Kind != kind || !errors.Is(c.Err, err) || (err == nil && c.Err != nil) {
		s.r.Fatalf("completion {ID %d, %s, %v}, want {ID %d, %s, %v}", c.ID, kindName(c.Kind), c.Err, id, kindName(kind), err)
	}
	return c
}

// do posts one signaled operation and waits for its success.
func (s *side) do(op fabric.Op) fabric.Completion {
	s.r.Helper()
	op.Flags |= fabric.Signaled
	op.ID = 0xD0
	s.post(op)
	return s.expect(op.Kind, 0xD0, nil)
}

// settle waits until everything that s posted is visible at the peer, and checks that no completion was left over.
func (s *side) settle(remote *area) {
	s.r.Helper()
	s.post(flush(0x5E771E, remote, fabric.Visible, fabric.Region, fabric.Signaled))
	s.expect(fabric.Flush, 0x5E771E, nil)
}

// reconnect replaces the connection between a and b.
func (r *rig) reconnect() {
	r.Helper()
	r.a.conn.Close()
	r.b.conn.Close()
	a, b, _, err := r.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
	if err != nil {
		r.Fatalf("reconnect: %v", err)
	}
	r.a.conn, r.b.conn = a, b
	r.a.done, r.a.received, r.b.done, r.b.received = nil, nil, nil, nil
	r.Cleanup(func() { a.Close(); b.Close() })
}

// isLost: the connection is gone, or something before was told so.
func isLost(err error) bool {
	return errors.Is(err, fabric.ErrBroken) || errors.Is(err, fabric.ErrFlushed)
}
