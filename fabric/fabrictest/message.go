package fabrictest

import (
	"bytes"
	"encoding/binary"
	"errors"

	"whale/fabric"
)

func init() {
	register("messages", checkMessages)
	register("a message before its receive", checkEarlySend)
	register("a message longer than the buffer", checkTooLong)
	register("messages both ways at once", checkBothWays)
	register("a message is behind the writes before it", checkSendBehindWrite)
}

func checkMessages(r *rig) {
	limit := uint64(r.a.conn.Caps().MaxSend)
	local, into := r.area(r.a, limit, fabric.LocalOnly), r.area(r.b, limit, fabric.LocalOnly)
	for i, n := range append([]uint64{0, 2, 100, 1000, limit - 1, limit}, sizes...) {
		if n > limit {
			continue
		}
		id := uint64(i)
		pattern(id, local.bytes()[:n])
		clear(into.bytes())
		into.bytes()[0] = canary
		at := min(7, limit-n) // the buffer may start anywhere
		r.b.post(recv(id, into, at, n))
		r.a.post(send(id+100, local, 0, n, fabric.Signaled))
		if c := r.b.nextReceived(); c.ID != id || c.Value != n || c.Err != nil {
			r.Fatalf("message of %d bytes: received %s", n, show(c))
		}
		r.a.expect(fabric.Send, id+100, nil)
		if !bytes.Equal(into.bytes()[at:at+n], local.bytes()[:n]) {
			r.Fatalf("message of %d bytes arrived changed", n)
		}
		if rest := into.bytes()[at+n:]; !bytes.Equal(rest, make([]byte, len(rest))) {
			r.Fatalf("message of %d bytes: a byte behind its buffer changed", n)
		}
	}
	// A shorter message leaves the rest of its buffer alone.
	if limit < 20 {
		return
	}
	pattern(5, into.bytes())
	want := bytes.Clone(into.bytes())
	copy(want, local.bytes()[:5])
	r.b.post(recv(1, into, 0, limit))
	r.a.do(send(0, local, 0, 5, 0))
	if c := r.b.nextReceived(); c.Value != 5 || c.Err != nil {
		r.Fatalf("message of 5 bytes in a longer buffer: %s", show(c))
	}
	if d := firstDiff(into.bytes(), want); d >= 0 {
		r.Fatalf("message of 5 bytes changed byte %d of its buffer", d)
	}
}

func checkEarlySend(r *rig) {
	local, into := r.area(r.a, 80, fabric.LocalOnly), r.area(r.b, 80, fabric.LocalOnly)
	pattern(6, local.bytes())
	n := min(10, r.a.conn.Caps().QueueDepth)
	for i := range uint64(n) {
		r.a.post(send(i, local, i*8, 8, fabric.Signaled))
	}
	r.idle()
	if len(r.b.received) > 0 {
		r.Fatalf("received %s without a buffer", show(r.b.received[0]))
	}
	for i := range uint64(n) {
		r.b.post(recv(i, into, i*8, 8))
		if c := r.b.nextReceived(); c.ID != i || c.Value != 8 || c.Err != nil {
			r.Fatalf("message %d, sent before its receive: %s", i, show(c))
		}
	}
	for i := range uint64(n) {
		r.a.expect(fabric.Send, i, nil)
	}
	if d := firstDiff(into.bytes()[:8*n], local.bytes()); d >= 0 {
		r.Fatalf("byte %d of the messages differs", d)
	}
}

func checkTooLong(r *rig) {
	local, into := r.area(r.a, 128, fabric.LocalOnly), r.area(r.b, 128, fabric.LocalOnly)
	for i, n := range []uint64{0, 1, 8, 63} {
		pattern(9, local.bytes())
		pattern(10, into.bytes())
		want := bytes.Clone(into.bytes())
		length := []uint64{1, 2, 64, 64}[i]
		receive, message := recv(1, into, 32, n), send(2, local, 0, length, fabric.Signaled)
		if i%2 == 0 {
			r.b.post(receive, recv(3, into, 32, n))
			r.a.post(message)
		} else {
			r.a.post(message)
			r.idle()
			r.b.post(receive, recv(3, into, 32, n))
		}
		if c := r.b.nextReceived(); c.ID != 1 || !errors.Is(c.Err, fabric.ErrTooLong) {
			r.Fatalf("message of %d bytes for a buffer of %d: received %s, want ErrTooLong", length, n, show(c))
		}
		if c := r.b.nextReceived(); c.ID != 3 || !errors.Is(c.Err, fabric.ErrFlushed) {
			r.Fatalf("the receive behind one that was too short: %s, want ErrFlushed", show(c))
		}
		if c := r.a.next(); c.ID != 2 || c.Err != nil && !errors.Is(c.Err, fabric.ErrTooLong) {
			r.Fatalf("the sender of a message that was too long: %s, want nil or ErrTooLong", show(c))
		}
		for j := range want {
			if inside := uint64(j) >= 32 && uint64(j) < 32+n; !inside && into.bytes()[j] != want[j] {
				r.Fatalf("message of %d bytes for a buffer of %d at 32: byte %d was overwritten", length, n, j)
			}
		}
		r.reconnect()
	}
}

func checkBothWays(r *rig) {
	const count, slots = 300, 4
	type end struct {
		*side
		out, in               *area
		sent, received, acked uint64
	}
	ends := [2]*end{}
	for i, s := range []*side{r.a, r.b} {
		ends[i] = &end{side: s, out: r.area(s, 64*slots, fabric.LocalOnly), in: r.area(s, 64*slots, fabric.LocalOnly)}
	}
	slotsUsed := uint64(min(slots, ends[0].conn.Caps().QueueDepth, ends[0].conn.Caps().RecvDepth))
	for _, e := range ends {
		for i := range slotsUsed {
			e.post(recv(i, e.in, i*64, 64))
		}
	}
	r.until("all messages arrive", func() bool {
		for way, e := range ends {
			if e.sent < count && e.sent-e.acked < slotsUsed {
				at, n := e.sent%slotsUsed*64, 8+e.sent*5%57
				pattern(e.sent<<1|uint64(way), e.out.bytes()[at:at+64])
				binary.LittleEndian.PutUint64(e.out.bytes()[at:], e.sent)
				e.post(send(e.sent, e.out, at, n, fabric.Signaled))
				e.sent++
			}
			e.poll()
			for _, c := range e.done {
				if c.ID != e.acked || c.Err != nil {
					r.Fatalf("send %d ended with %s", e.acked, show(c))
				}
				e.acked++
			}
			for _, c := range e.side.received {
				i, want := e.received, make([]byte, 64)
				pattern(i<<1|uint64(1-way), want)
				binary.LittleEndian.PutUint64(want, i)
				n := 8 + i*5%57
				if c.ID != i || c.Value != n || c.Err != nil {
					r.Fatalf("message %d: received %s, want %d bytes", i, show(c), n)
				}
				at := i % slotsUsed * 64
				if d := firstDiff(want[:n], e.in.bytes()[at:]); d >= 0 {
					r.Fatalf("message %d: byte %d differs", i, d)
				}
				e.received++
				e.post(recv(i+slotsUsed, e.in, at, 64))
			}
			e.done, e.side.received = nil, nil
		}
		return ends[0].received == count && ends[1].received == count
	})
}

func checkSendBehindWrite(r *rig) {
	local, remote := r.area(r.a, 2048, fabric.LocalOnly), r.area(r.b, 2048, allRights)
	into := r.area(r.b, 8, fabric.LocalOnly)
	for i := uint64(1); i <= 30; i++ {
		pattern(i, local.bytes())
		r.b.post(recv(i, into, 0, 8))
		for off := uint64(0); off < 2048; off += 512 {
			r.a.post(write(0, local, off, remote, off, 512, 0))
		}
		r.a.post(send(i, local, 0, 8, fabric.Signaled))
		if c := r.b.nextReceived(); c.ID != i || c.Err != nil {
			r.Fatalf("receive %d: %s", i, show(c))
		}
		if d := firstDiff(remote.bytes(), local.bytes()); d >= 0 {
			r.Fatalf("a message was received before byte %d of a Write in front of it was visible", d)
		}
		r.a.expect(fabric.Send, i, nil)
	}
}
