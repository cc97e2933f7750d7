package shm

import (
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/words"
)

// The queues of a connection are rings of a fixed size, allocated with it. Who pushes has asked conn.admits for room.

// waiting is an operation behind a Send that found no room.
type waiting struct {
	op     fabric.Op
	copied bool
	bytes  [maxInline]byte
}

// inlined is where the bytes of an Inline operation are, or nil.
func (w *waiting) inlined() unsafe.Pointer {
	if !w.copied {
		return nil
	}
	return unsafe.Pointer(&w.bytes)
}

type queue struct {
	ring    []waiting
	head, n int
}

func (q *queue) front() *waiting { return &q.ring[q.head] }

func (q *queue) pop() {
	q.head = (q.head + 1) % len(q.ring)
	q.n--
}

// push copies op, and the bytes at inline if there are some.
func (q *queue) push(op *fabric.Op, inline unsafe.Pointer) {
	w := &q.ring[(q.head+q.n)%len(q.ring)]
	q.n++
	w.op, w.copied = *op, inline != nil
	if w.copied {
		words.Copy(unsafe.Pointer(&w.bytes), inline, op.Len)
	}
}

// inlined is the local memory of op if it has to be copied now. If there is anything wrong with it, executing op will
// find that again.
func (c *conn) inlined(op *fabric.Op) unsafe.Pointer {
	if op.Flags&fabric.Inline == 0 || op.Kind == fabric.Write8 || checkOp(op) != nil {
		return nil
	}
	_, p, err := c.local(op.Local, op.Len)
	if err != nil {
		return nil
	}
	return p
}

// receives are the posted Recvs.
type receives struct {
	ring    []fabric.Op
	head, n int
}

func (r *receives) push(op *fabric.Op) {
	r.ring[(r.head+r.n)%len(r.ring)] = *op
	r.n++
}

func (r *receives) pop() fabric.Op {
	op := r.ring[r.head]
	r.head = (r.head + 1) % len(r.ring)
	r.n--
	return op
}

// completions are those that were not polled yet. Sends and receives are counted apart, because each counts against
// the depth of its own queue.
type completions struct {
	ring             []fabric.Completion
	head             int
	others, receives int
}

func (d *completions) push(c fabric.Completion) {
	d.ring[(d.head+d.others+d.receives)%len(d.ring)] = c
	if c.Kind == fabric.Recv {
		d.receives++
	} else {
		d.others++
	}
}

func (d *completions) take(dst []fabric.Completion) int {
	n := min(len(dst), d.others+d.receives)
	for i := range n {
		c := &d.ring[d.head]
		dst[i] = *c
		c.Err = nil
		if c.Kind == fabric.Recv {
			d.receives--
		} else {
			d.others--
		}
		if d.head++; d.head == len(d.ring) {
			d.head = 0
		}
	}
	return n
}
