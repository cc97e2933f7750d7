package tcp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/rules"
	"whale/fabric/internal/words"
)

// receives are the posted Recvs, a ring between the owner, who posts and polls, and the target's goroutine, which fills
// their buffers in order. Each writes its own positions and an entry only while it is its own.
type receives struct {
	ring   [recvDepth]received
	posted atomic.Uint64 // owner
	filled atomic.Uint64 // target
	polled uint64        // owner

	hungry atomic.Bool   // the target waits for posted
	food   chan struct{} // and is woken by this
}

type received struct {
	op  fabric.Op
	n   uint64
	err error
}

// post takes a Recv. False: the queue is full.
func (r *receives) post(op *fabric.Op) bool {
	at := r.posted.Load()
	if at-r.polled == recvDepth {
		return false
	}
	r.ring[at%recvDepth] = received{op: *op}
	r.posted.Store(at + 1)
	if r.hungry.Load() {
		select {
		case r.food <- struct{}{}:
		default:
		}
	}
	return true
}

// deliver puts a message into the next posted buffer, and waits for one if there is none: what the peer sends behind it
// waits, too. A message that does not fit, or a bad buffer, is the end of the connection on both sides.
func (t *target) deliver(message []byte) error {
	r := &t.c.receives
	at := r.filled.Load()
	if err := t.await(at); err != nil {
		return err
	}
	e := &r.ring[at%recvDepth]
	if e.err = t.c.fill(&e.op, message); e.err != nil {
		// The peer first: the owner's reaction is to close.
		if err := t.refuse(e.err); !errors.Is(err, errRefused) {
			e.err = fmt.Errorf("%w (and the peer could not be told: %w)", e.err, err)
		}
	}
	e.n = uint64(len(message))
	failed := e.err != nil
	r.filled.Store(at + 1) // the entry is the owner's
	if t.ringing = true; failed {
		t.c.ep.bell.ring()
		return errRefused
	}
	return nil
}

// await returns when more than at buffers are posted.
func (t *target) await(at uint64) error {
	r := &t.c.receives
	if r.posted.Load() > at {
		return nil
	}
	if err := t.quiet(); err != nil {
		return err
	}
	r.hungry.Store(true)
	defer r.hungry.Store(false)
	for r.posted.Load() <= at {
		select {
		case <-r.food:
		case <-t.c.quit:
			return errClosing
		}
	}
	return nil
}

// fill copies a message to the buffer of a Recv.
func (c *conn) fill(op *fabric.Op, message []byte) error {
	if err := rules.Check(op, maxInline, maxSend); err != nil {
		return err
	}
	r, err := c.ep.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	defer r.release()
	if uint64(len(message)) > op.Len {
		return fmt.Errorf("%w: %d bytes for a buffer of %d", fabric.ErrTooLong, len(message), op.Len)
	}
	words.Copy(r.at(op.Local.Off), unsafe.Pointer(unsafe.SliceData(message)), uint64(len(message)))
	return nil
}

// collectReceives moves completions of Recvs into dst. over says that no goroutine of the connection runs any more.
func (c *conn) collectReceives(dst []fabric.Completion, over bool) (n int) {
	r := &c.receives
	for filled := r.filled.Load(); n < len(dst) && r.polled < r.posted.Load(); n++ {
		e := &r.ring[r.polled%recvDepth]
		done := fabric.Completion{ID: e.op.ID, Kind: fabric.Recv}
		switch {
		case c.err != nil && !over:
			return n
		case c.err != nil:
			done.Err = c.err
		case r.polled < filled && e.err == nil:
			done.Value = e.n
		case r.polled < filled:
			done.Err = e.err
			c.fail()
		case over:
			done.Err = c.lost()
			c.fail()
		default:
			return n
		}
		dst[n] = done
		r.polled++
	}
	return n
}
