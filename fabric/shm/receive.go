package shm

import (
	"fmt"

	"whale/fabric"
)

// postReceive queues a Recv; it is checked now and, because its key may be revoked, again when a message comes.
func (c *conn) postReceive(op *fabric.Op) {
	c.current.ID, c.current.Kind = op.ID, op.Kind
	err := checkOp(op)
	if err == nil {
		_, _, err = c.local(op.Local, op.Len)
	}
	if err != nil {
		c.fail(op, err)
		return
	}
	c.receives.push(op)
}

// receive hands messages to posted Recvs.
func (c *conn) receive() {
	for c.receives.n > 0 && c.err == nil {
		n, ok, err := c.in.next()
		if !ok && err == nil {
			return
		}
		op := c.receives.pop()
		c.current.ID, c.current.Kind = op.ID, op.Kind
		if err = c.receiveOne(&op, n, err); err != nil {
			c.fail(&op, err)
		}
	}
	c.current.Kind = 0
}

// receiveOne takes the next message, of n bytes, into the memory of op.
func (c *conn) receiveOne(op *fabric.Op, n uint64, corrupt error) error {
	if corrupt != nil {
		return fmt.Errorf("%w: %w", fabric.ErrBroken, corrupt)
	}
	_, dst, err := c.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	if n > op.Len {
		return fmt.Errorf("%w: %d bytes for a buffer of %d", fabric.ErrTooLong, n, op.Len)
	}
	if c.in.take(dst, n) {
		c.ringing = true
	}
	c.complete(op, n, nil)
	return nil
}
