package tcp

import (
	"fmt"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/words"
	"whale/pmem"
)

// listen takes in the replies to our requests until the socket ends, and says why. It always reads: the peer may rely on
// getting rid of its answers.
func (c *conn) listen() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	news := false
	in := stream{from: c.out, buf: make([]byte, streamSize), quiet: func() error {
		if news {
			news = false
			c.ep.bell.ring()
		}
		return nil
	}}
	var p reply
	for {
		b, err := in.next(replySize)
		if err != nil {
			return err
		}
		if err := p.decode(b); err != nil {
			return err
		}
		payload, err := in.next(padded(p.n))
		if err != nil {
			return err
		}
		if c.fault.Load() != nil {
			continue // the end has begun
		}
		if err := c.take(&p, payload[:p.n]); err != nil {
			return err
		}
		news = true
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
	words.Copy(r.at(e.op.Local.Off+off), unsafe.Pointer(unsafe.SliceData(b)), n)
	r.release()
	if c.landing += n; c.landing == e.op.Len {
		c.landing = 0
		c.acked.Store(seq + 1)
	}
	return nil
}
