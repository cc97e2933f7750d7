package tcp

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/pmem"
)

// hearing is the taking in of replies: by the owner of the connection, in Poll, and by conn.listen after the end has begun.
type hearing struct {
	mu  sync.Mutex // held by who reads
	in  stream
	err error // why there is nothing more to be read
}

// listen takes in the last replies to our requests, and says why there are no more.
func (c *conn) listen() (err error) {
	<-c.out.late
	defer c.ep.bell.ignore(c.out)
	for until := time.Now().Add(lastWords); ; {
		if err := c.hear(); !errors.Is(err, errNothing) {
			return err
		}
		c.ep.bell.ring()
		left := time.Until(until)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		c.out.await(unix.POLLIN, left)
	}
}

// overhear takes in the replies that are there. The owner. While nothing is asked, only the end can be there (or what TLS says of its own); it is
// looked for when the owner has parked, and was perhaps woken up by it.
func (c *conn) overhear() {
	parked := c.ep.bell.parked.Load()
	if c.acked.Load() == c.encoded && c.parked == parked {
		return
	}
	c.parked = parked
	if err := c.hear(); !errors.Is(err, errNothing) {
		c.out.hurry() // listen does the rest
	}
}

// hear takes in replies until there is nothing more, or something wrong.
func (c *conn) hear() (err error) {
	h := &c.hearing
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		if err = c.takeAll(); errors.Is(err, errNothing) {
			return err
		}
		h.err = err
	}
	return h.err
}

// takeAll handles replies until the stream has no whole one.
func (c *conn) takeAll() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	in := &c.hearing.in
	var p reply
	for {
		b, err := in.peek(replySize)
		if err != nil {
			return err
		}
		if err := p.decode(b); err != nil {
			return err
		}
		n := replySize + padded(p.n)
		if b, err = in.next(n); err != nil {
			return err
		}
		if c.fault.Load() != nil {
			continue // the end has begun
		}
		if err := c.take(&p, b[replySize:][:p.n]); err != nil {
			return err
		}
	}
}

// take handles one reply. An error is one of the protocol.
func (c *conn) take(p *reply, payload []byte) error {
	acked, sent := c.acked.Load(), c.sent.Load()
	seq := acked + uint64(p.seq-uint32(acked))
	// A refusal may come before all frames of its operation were sent, and an acknowledgement of the newest twice.
	if seq > sent || seq == sent && p.kind != replyFail {
		return fmt.Errorf("%w: an answer to operation %d, and those before %d were sent", errFrame, seq, sent)
	}
	if c.landing > 0 && (p.kind == replyAck || p.kind == replyValue || seq != acked) {
		return fmt.Errorf("%w: an answer to operation %d in the middle of that to the read %d", errFrame, seq, acked)
	}
	switch p.kind {
	case replyAck:
		c.acked.Store(seq + 1)
	case replyValue:
		e := &c.ring[seq%queueDepth]
		if e.err != nil || e.op.Kind != fabric.CompareSwap && e.op.Kind != fabric.FetchAdd {
			return fmt.Errorf("%w: the value of operation %d, which is no atomic", errFrame, seq)
		}
		e.value = p.value
		c.acked.Store(seq + 1)
	case replyData:
		c.acked.Store(seq)
		return c.land(seq, p.value, payload)
	case replyFail:
		c.acked.Store(seq)
		c.fault.Store(&fault{seq, refusal(p.code, string(payload))})
	}
	return nil
}

// land puts bytes of a Read to their place.
func (c *conn) land(seq, off uint64, b []byte) error {
	e := &c.ring[seq%queueDepth]
	n := uint64(len(b))
	if e.err != nil || e.op.Kind != fabric.Read || off != c.landing || n > e.op.Len-off || n == 0 && e.op.Len > 0 {
		return fmt.Errorf("%w: %d bytes at %d for operation %d, expected those of a read at %d", errFrame, n, off, seq, c.landing)
	}
	r, err := c.ep.local(e.op.Local, e.op.Len)
	if err != nil { // revoked meanwhile
		c.fault.Store(&fault{seq, err})
		return nil
	}
	r.fill(e.op.Local.Off+off, b)
	if c.landing += n; c.landing == e.op.Len {
		c.landing = 0
		c.acked.Store(seq + 1)
	}
	return nil
}
