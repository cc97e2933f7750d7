package tcp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"whale/fabric"
	"whale/pmem"
)

// target is the half of a connection that plays the network card of the memory: its goroutine executes the peer's
// requests one after the other and answers them. The owner of the endpoint takes no part, except for the buffers of
// messages.
//
// Bytes from the socket go to memory of the target's own first, and from there to their place in one go, so that no key
// is held while the peer takes its time.
type target struct {
	c       *conn
	sock    socket
	in      stream
	out     []byte // replies not yet written; its start is aligned
	done    uint64 // operations executed
	said    uint64 // operations that the peer knows to be executed
	asked   bool   // it wants to know more
	ringing bool   // the owner is to be rung
	fence   atomic.Uint64
	through pmem.Memory // written through or non-temporally, and not fenced since: see persist.go
}

// outSize holds a whole reply of the largest size, and some more; one acknowledgement always finds room behind that.
const outSize = maxPayload + 4096

var (
	errClosing = errors.New("closing")
	errRefused = errors.New("an operation was refused")
)

func newTarget(c *conn, sock socket) *target {
	t := &target{c: c, sock: sock, out: make([]byte, 0, outSize+replySize)}
	t.in = stream{from: sock, buf: make([]byte, streamSize), quiet: t.quiet}
	return t
}

// run serves until the socket ends, or the connection is closed, and says why.
func (t *target) run() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	if err = t.serve(); errors.Is(err, errRefused) {
		err = t.discard()
	}
	return err
}

// serve executes requests until there is something wrong.
func (t *target) serve() error {
	var q request
	for {
		b, err := t.in.next(requestSize)
		if err != nil {
			return err
		}
		if err := q.decode(b); err != nil {
			return err
		}
		if q.seq != uint32(t.done) {
			return fmt.Errorf("%w: request %d, expected %d", errFrame, q.seq, uint32(t.done))
		}
		payload, err := t.in.next(int(q.n))
		if err != nil {
			return err
		}
		if t.c.closing.Load() {
			return errClosing
		}
		if err := t.execute(&q, payload); err != nil {
			return err
		}
		if q.flags&flagAck != 0 {
			t.asked = true
		}
	}
}

// discard takes what comes behind a refused operation, and does nothing with it.
func (t *target) discard() error {
	for {
		t.in.r = t.in.w
		if _, err := t.in.next(1); err != nil {
			return err
		}
	}
}

// quiet is called when there is nothing more to read: the time to answer.
func (t *target) quiet() error {
	if t.ringing {
		t.ringing = false
		t.c.ep.bell.ring()
	}
	if t.asked && t.said < t.done {
		t.answer(reply{kind: replyAck, seq: uint32(t.done - 1)})
	}
	t.asked = false
	return t.write()
}

// write hands the replies to the socket, and waits until it has taken them. The peer reads them when it polls.
func (t *target) write() error {
	if len(t.out) == 0 {
		return nil
	}
	_, err := t.sock.Write(t.out)
	t.out = t.out[:0]
	return err
}

// answer adds a reply, which tells too that everything before it has been executed, and returns the place of its payload.
// The caller has reserved the room.
func (t *target) answer(p reply) []byte {
	at, n := len(t.out)+replySize, int(p.n)
	t.out = t.out[:at+padded(p.n)]
	p.encode(t.out[at-replySize:])
	clear(t.out[at+n:])
	t.said = t.done
	return t.out[at : at+n]
}

// reserve makes room for a reply of so many bytes.
func (t *target) reserve(n int) error {
	if len(t.out)+replySize+n > outSize {
		return t.write()
	}
	return nil
}

// execute does one request. errRefused: it was refused, and the peer is about to be told.
func (t *target) execute(q *request, payload []byte) error {
	value, err := t.perform(q, payload)
	if err != nil {
		return t.refuse(err)
	}
	if q.flags&flagNotify != 0 {
		t.ringing = true
	}
	if q.kind == fabric.Write && uint64(q.n) < q.a {
		return nil // more of it is to come
	}
	t.done++
	switch q.kind {
	case fabric.Read:
		t.said = t.done
	case fabric.CompareSwap, fabric.FetchAdd:
		if err := t.reserve(0); err != nil {
			return err
		}
		t.answer(reply{kind: replyValue, value: value, seq: uint32(t.done - 1)})
	}
	return nil
}

// refuse tells the peer why operation done was not executed. What is wrong with the connection itself is returned.
func (t *target) refuse(why error) error {
	switch {
	case errors.Is(why, fabric.ErrAccess), errors.Is(why, fabric.ErrOp), errors.Is(why, fabric.ErrUnsupported),
		errors.Is(why, fabric.ErrTooLong), errors.Is(why, fabric.ErrLocal):
	default:
		return why
	}
	text := why.Error()
	text = text[:min(len(text), maxText)]
	if err := t.reserve(padded(uint32(len(text)))); err != nil {
		return err
	}
	copy(t.answer(reply{kind: replyFail, code: codeOf(why), n: uint32(len(text)), seq: uint32(t.done)}), text)
	if err := t.write(); err != nil {
		return err
	}
	return errRefused
}

// perform is the operation itself. A Read sends its replies.
func (t *target) perform(q *request, payload []byte) (value uint64, err error) {
	e := t.c.ep
	switch q.kind {
	case fabric.Write:
		r, err := e.remote(q.key, q.off, q.a, fabric.RemoteWrite)
		if err != nil {
			return 0, err
		}
		defer r.release()
		return 0, t.store(r, q, payload)
	case fabric.Read:
		t.order()
		return 0, t.read(q)
	case fabric.Write8, fabric.CompareSwap, fabric.FetchAdd:
		return t.word(q)
	case fabric.Flush:
		return 0, t.flush(q)
	case fabric.Fence:
		t.fence.Add(1) // a full fence
		if q.flags&flagDurable != 0 {
			t.order()
		}
	case fabric.Send:
		return 0, t.deliver(payload)
	}
	return 0, nil
}

// read sends the bytes, a reply at a time, copied under the key and sent without it.
func (t *target) read(q *request) error {
	for off := uint64(0); ; {
		r, err := t.c.ep.remote(q.key, q.off, q.a, fabric.RemoteRead)
		if err != nil {
			return err
		}
		r.release() // the peer may take its time before there is room
		n := min(q.a-off, maxPayload)
		if err := t.reserve(padded(uint32(n))); err != nil {
			return err
		}
		if r, err = t.c.ep.remote(q.key, q.off, q.a, fabric.RemoteRead); err != nil {
			return err
		}
		into := t.answer(reply{kind: replyData, n: uint32(n), value: off, seq: uint32(t.done)})
		r.copyOut(into, q.off+off)
		if off += n; off == q.a {
			return nil
		}
		if t.c.closing.Load() {
			return errClosing
		}
	}
}

// word executes what works on one aligned word.
func (t *target) word(q *request) (before uint64, err error) {
	right := fabric.RemoteAtomic
	if q.kind == fabric.Write8 {
		right = fabric.RemoteWrite
	}
	r, err := t.c.ep.remote(q.key, q.off, 8, right)
	if err != nil {
		return 0, err
	}
	defer r.release()
	p := (*uint64)(r.at(q.off))
	if uintptr(unsafe.Pointer(p))%8 != 0 {
		return 0, fmt.Errorf("%w: offset %d of key %#x is not that of an aligned word", fabric.ErrOp, q.off, q.key)
	}
	switch q.kind {
	case fabric.Write8:
		if err := t.prepare(r, q); err != nil {
			return 0, err
		}
		atomic.StoreUint64(p, q.a)
	case fabric.FetchAdd:
		before = atomic.AddUint64(p, q.a) - q.a
	case fabric.CompareSwap:
		for before = q.a; !atomic.CompareAndSwapUint64(p, q.a, q.b); {
			if before = atomic.LoadUint64(p); before != q.a {
				break
			}
			before = q.a
		}
	}
	t.started(r, q, 8)
	return before, nil
}

// flush: what was written before is in memory already, by this very goroutine.
func (t *target) flush(q *request) error {
	right, off, n := allRights, q.off, q.a
	if q.flags&flagDurable != 0 {
		right = fabric.RemoteFlush
	}
	if q.flags&flagRegion != 0 {
		off, n = 0, 0
	}
	r, err := t.c.ep.remote(q.key, off, n, right)
	if err != nil {
		return err
	}
	defer r.release()
	if q.flags&flagDurable == 0 {
		return nil
	}
	if r.mem.Domain() == pmem.None {
		return fmt.Errorf("%w: a durable flush of memory that survives nothing", fabric.ErrUnsupported)
	}
	if q.flags&flagRegion == 0 {
		r.mem.Persist(r.off+off, n)
	}
	r.mem.Fence()
	return nil
}
