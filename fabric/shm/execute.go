package shm

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/rules"
	"whale/fabric/internal/words"
)

const (
	// breatheBytes is how much a period moves at most, and so how long a withdrawal waits for a live peer.
	breatheBytes = 1 << 20
	chunk        = 256 << 10 // bytes moved between two looks at that
)

// checkOp finds what is wrong with op whatever the keys say.
func checkOp(op *fabric.Op) error { return rules.Check(op, maxInline, maxSend) }

// execute does op inside a period and completes it. False: a Send that found no room; nothing has happened. inlined is
// where the bytes are if they were copied at Post.
func (c *conn) execute(op *fabric.Op, inlined unsafe.Pointer) bool {
	c.current.ID, c.current.Kind = op.ID, op.Kind
	if c.moved >= breatheBytes {
		if c.breathe(); c.err != nil {
			c.fail(op, c.err)
			return true
		}
	}
	value, ok, err := c.perform(op, inlined)
	if err == nil {
		err = c.err // lost meanwhile
	}
	if err != nil {
		c.fail(op, err)
		return true
	}
	if !ok {
		return false
	}
	if op.Flags&fabric.Notify != 0 {
		c.ringing, c.settled = true, true
	}
	if op.Flags&fabric.Signaled != 0 {
		c.complete(op, value, nil)
	}
	return true
}

// perform is the operation itself.
func (c *conn) perform(op *fabric.Op, inlined unsafe.Pointer) (value uint64, ok bool, err error) {
	if err := checkOp(op); err != nil {
		return 0, false, err
	}
	switch op.Kind {
	case fabric.Write:
		err = c.write(op, inlined)
	case fabric.Read:
		err = c.read(op)
	case fabric.Write8, fabric.CompareSwap, fabric.FetchAdd:
		value, err = c.word(op)
	case fabric.Flush:
		err = c.flushMemory(op)
	case fabric.Fence:
		c.fence(op)
	case fabric.Send:
		ok, err = c.send(op, inlined)
		return 0, ok, err
	}
	return value, true, err
}

func (c *conn) write(op *fabric.Op, src unsafe.Pointer) error {
	r, dst, err := c.reach(op.Remote, op.Len, fabric.RemoteWrite)
	if err != nil {
		return err
	}
	var l *registration
	if src == nil {
		if l, src, err = c.local(op.Local, op.Len); err != nil {
			return err
		}
	}
	if op.Len <= chunk {
		c.copyTo(r, dst, src, op)
		return nil
	}
	if op.Flags&fabric.NonTemporal != 0 {
		c.order()
	}
	if err := c.moveLong(dst, src, op.Len, r, l); err != nil {
		return err
	}
	c.started(r, op, op.Len)
	return nil
}

func (c *conn) read(op *fabric.Op) error {
	c.order()
	r, src, err := c.reach(op.Remote, op.Len, fabric.RemoteRead)
	if err != nil {
		return err
	}
	l, dst, err := c.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	if op.Len > chunk {
		return c.moveLong(dst, src, op.Len, r, l)
	}
	words.Copy(dst, src, op.Len)
	c.moved += op.Len
	return nil
}

// moveLong moves in chunks, and breathes between them.
func (c *conn) moveLong(dst, src unsafe.Pointer, n uint64, r *remote, l *registration) error {
	c.settled = true
	for {
		now := min(n, chunk)
		words.Copy(dst, src, now)
		c.moved += now
		if n -= now; n == 0 {
			return nil
		}
		dst, src = unsafe.Add(dst, now), unsafe.Add(src, now)
		if c.midCopy != nil {
			c.midCopy()
		}
		if c.moved >= breatheBytes {
			c.breathe()
			if c.err != nil {
				return c.err
			}
			if r.word.Load() != uint64(r.key) {
				return c.refuse(r.key, errNoKey)
			}
			if l != nil && c.ep.locals[l.key&keyMask].Load() != l {
				return fmt.Errorf("%w: key %#x was revoked", fabric.ErrLocal, l.key)
			}
		}
	}
}

// word executes what works on one aligned word.
func (c *conn) word(op *fabric.Op) (before uint64, err error) {
	right := fabric.RemoteAtomic
	if op.Kind == fabric.Write8 {
		right = fabric.RemoteWrite
	}
	r, at, err := c.reach(op.Remote, 8, right)
	if err != nil {
		return 0, err
	}
	if uintptr(at)%8 != 0 {
		return 0, fmt.Errorf("%w: key %#x was registered at an offset that is not aligned, so it has no words", fabric.ErrOp, r.key)
	}
	p := (*uint64)(at)
	switch op.Kind {
	case fabric.Write8:
		if op.Flags&fabric.NonTemporal != 0 {
			c.order()
		}
		atomic.StoreUint64(p, op.A)
	case fabric.FetchAdd:
		before = atomic.AddUint64(p, op.A) - op.A
	case fabric.CompareSwap:
		for before = op.A; !atomic.CompareAndSwapUint64(p, op.A, op.B); {
			if before = atomic.LoadUint64(p); before != op.A {
				break
			}
			before = op.A
		}
	}
	c.started(r, op, 8)
	return before, nil
}

// flushMemory: the stores of this thread are visible at the latest with the atomic store that ends the period, before
// the completion can be polled; what is left is the way to the persistence domain.
func (c *conn) flushMemory(op *fabric.Op) error {
	right := fabric.RemoteFlush
	if op.A == fabric.Visible {
		right = 0 // any
	}
	at, n := op.Remote, op.Len
	if op.B == fabric.Region {
		at.Off, n = 0, 0
	}
	r, _, err := c.reach(at, n, right)
	if err != nil {
		return err
	}
	if op.A == fabric.Durable {
		if op.B == fabric.Range {
			r.mem.Persist(r.off+at.Off, n)
		}
		r.mem.Fence()
	}
	return nil
}

// fence is a full fence: an exchange on a word that this process alone writes.
func (c *conn) fence(op *fabric.Op) {
	c.peer.line.busy.Swap(c.busy)
	if op.A == fabric.Durable {
		c.order()
	}
}

func (c *conn) send(op *fabric.Op, src unsafe.Pointer) (ok bool, err error) {
	if src == nil {
		if _, src, err = c.local(op.Local, op.Len); err != nil {
			return false, err
		}
	}
	if ok, err = c.peer.out.put(src, op.Len); err != nil {
		return false, fmt.Errorf("%w: %w", fabric.ErrBroken, err)
	}
	if ok {
		c.moved += op.Len
		c.ringing, c.settled = true, true
	}
	return ok, nil
}

// local is the n bytes at s, in memory registered here.
func (c *conn) local(s fabric.Span, n uint64) (*registration, unsafe.Pointer, error) {
	r := c.ep.locals[s.Key&keyMask].Load()
	if r == nil || r.key != s.Key {
		return nil, nil, fmt.Errorf("%w: unknown or revoked key %#x", fabric.ErrLocal, s.Key)
	}
	if s.Off > r.n || n > r.n-s.Off {
		return nil, nil, fmt.Errorf("%w: [%d, %d+%d) of key %#x, which has %d bytes", fabric.ErrLocal, s.Off, s.Off, n, s.Key, r.n)
	}
	if n == 0 {
		return r, r.base, nil // the end would be a pointer to something else
	}
	return r, unsafe.Add(r.base, s.Off), nil
}
