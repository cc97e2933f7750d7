package fabrictest

import (
	"bytes"
	"errors"

	"whale/fabric"
	"whale/pmem"
)

func init() {
	register("capabilities", checkCaps)
	register("a full queue", checkFullQueue)
	register("a full queue of unsignaled operations", checkFullUnsignaled)
	register("a full queue of errors", checkFullErrors)
	register("a full receive queue", checkFullRecv)
}

// checkCaps: what the connection says of itself is so. (Limits that are passed, operations that are not supported: see
// the checks of faults, atomics, flush.)
func checkCaps(r *rig) {
	caps := r.a.conn.Caps()
	if caps != r.a.conn.Caps() {
		r.Errorf("Caps changes: %+v, then %+v", caps, r.a.conn.Caps())
	}
	if caps.Provider == "" || caps.QueueDepth < 2 || caps.RecvDepth < 4 || caps.Inline < 0 || caps.MaxSend < 64 || caps.Domain > pmem.EADR {
		r.Errorf("Caps makes no sense, or is below the least that is asked of a provider: %+v", caps)
	}
	if back := r.b.conn.Caps(); back.Provider != caps.Provider {
		r.Errorf("one end is %q, the other %q", caps.Provider, back.Provider)
	}
	local, into := r.area(r.a, uint64(max(caps.MaxSend, caps.Inline)), fabric.LocalOnly), r.area(r.b, uint64(caps.MaxSend), fabric.LocalOnly)
	remote := r.area(r.b, local.size, allRights)
	pattern(1, local.bytes())
	r.b.post(recv(1, into, 0, into.size))
	r.a.do(send(0, local, 0, uint64(caps.MaxSend), 0))
	if c := r.b.nextReceived(); c.Err != nil || c.Value != uint64(caps.MaxSend) {
		r.Fatalf("a message of MaxSend = %d bytes: received %s", caps.MaxSend, show(c))
	}
	if d := firstDiff(into.bytes(), local.bytes()); d >= 0 {
		r.Fatalf("a message of MaxSend bytes: byte %d differs", d)
	}
	n := uint64(caps.Inline)
	r.a.do(write(0, local, 0, remote, 0, n, fabric.Inline))
	r.a.settle(remote)
	if !bytes.Equal(remote.bytes()[:n], local.bytes()[:n]) {
		r.Fatalf("an Inline Write of Caps.Inline = %d bytes arrived otherwise", n)
	}
}

// checkFullQueue: Post takes what fits and no more, says so, and goes on after Poll; nothing is lost or out of order.
func checkFullQueue(r *rig) {
	depth := r.a.conn.Caps().QueueDepth
	local, remote := r.area(r.a, 64, fabric.LocalOnly), r.area(r.b, 64, allRights)
	ops := make([]fabric.Op, 5*depth+3)
	for i := range ops {
		ops[i] = r.anyOp([]int{0, 2, 3, 1}[i%4], uint64(i), local, remote, fabric.Signaled)
		if i%4 < 2 {
			ops[i].Remote.Off, ops[i].Len = 0, 8
		}
		if i%4 == 3 {
			ops[i] = read(uint64(i), local, 8, remote, 0, 8, fabric.Signaled)
		}
	}
	if n := r.a.conn.Post(ops); n != depth {
		r.Fatalf("an idle connection took %d of %d signaled operations, want QueueDepth = %d", n, len(ops), depth)
	}
	if n := r.a.conn.Post(ops[depth:]); n != 0 {
		r.Fatalf("a full queue took %d more operations before a Poll", n)
	}
	posted, polled := depth, 0
	space := make([]fabric.Completion, 3)
	r.until("all operations complete", func() bool {
		n := r.a.conn.Poll(space)
		for _, c := range space[:n] {
			if c.ID != uint64(polled) || c.Err != nil {
				r.Fatalf("completion %s, want ID %d without an error", show(c), polled)
			}
			polled++
		}
		posted += r.a.conn.Post(ops[posted:])
		if posted-polled > depth {
			r.Fatalf("%d operations are posted and not polled, QueueDepth is %d", posted-polled, depth)
		}
		return polled == len(ops)
	})
}

func checkFullUnsignaled(r *rig) {
	depth := uint64(r.a.conn.Caps().QueueDepth)
	local, remote := r.area(r.a, 4096, fabric.LocalOnly), r.area(r.b, 8*(4*depth+1), allRights)
	for i := range 4*depth + 1 {
		r.a.post(write8(0, remote, 8*i, i+1, 0))
		if i%7 == 0 {
			r.a.post(read(0, local, 0, remote, 8*i, 8, 0))
		}
	}
	r.a.settle(remote)
	for i := range 4*depth + 1 {
		if got := remote.word(8 * i); got != i+1 {
			r.Fatalf("unsignaled Write8 %d is lost: the word is %d", i, got)
		}
	}
}

// checkFullErrors: each flushed operation has a completion, and they too are bounded by the queue.
func checkFullErrors(r *rig) {
	depth := r.a.conn.Caps().QueueDepth
	local, remote := r.area(r.a, 64, fabric.LocalOnly), r.area(r.b, 64, allRights)
	r.a.post(write(0, local, 0, remote, 64, 1, 0))
	r.a.expect(fabric.Write, 0, fabric.ErrAccess)
	posted, polled := 0, 0
	r.until("flushed operations complete", func() bool {
		n := r.a.conn.Post([]fabric.Op{write8(uint64(posted), remote, 0, 1, fabric.Signaled), write8(uint64(posted)+1, remote, 0, 1, 0)})
		posted += n
		if posted-polled > depth {
			r.Fatalf("%d flushed operations are not polled, QueueDepth is %d", posted-polled, depth)
		}
		if n == 2 && polled == 0 {
			return false // not full yet
		}
		for _, c := range drain(r.a) {
			if c.ID != uint64(polled) || !errors.Is(c.Err, fabric.ErrFlushed) {
				r.Fatalf("completion %s, want ID %d flushed", show(c), polled)
			}
			polled++
		}
		return polled >= 3*depth && polled == posted
	})
	if got := remote.word(0); got != 0 {
		r.Fatalf("a flushed Write8 landed")
	}
}

// drain takes what has completed at s.
func drain(s *side) []fabric.Completion {
	s.poll()
	out := s.done
	s.done = nil
	return out
}

func checkFullRecv(r *rig) {
	depth := r.b.conn.Caps().RecvDepth
	local, into := r.area(r.a, 64, fabric.LocalOnly), r.area(r.b, 64, fabric.LocalOnly)
	ops := make([]fabric.Op, 2*depth)
	for i := range ops {
		ops[i] = recv(uint64(i), into, uint64(i)%8*8, 8)
	}
	if n := r.b.conn.Post(ops); n != depth {
		r.Fatalf("an idle connection took %d of %d receives, want RecvDepth = %d", n, len(ops), depth)
	}
	// Receives and operations do not take each other's room.
	remote := r.area(r.a, 64, allRights)
	if n := r.b.conn.Post([]fabric.Op{write8(7, remote, 0, 1, fabric.Signaled)}); n != 1 {
		r.Fatalf("a full receive queue kept a Write8 out")
	}
	r.b.expect(fabric.Write8, 7, nil)
	posted := depth
	for i := range ops {
		r.a.post(send(uint64(i), local, 0, 8, fabric.Signaled))
		c := r.b.nextReceived()
		if c.ID != uint64(i) || c.Err != nil || c.Value != 8 {
			r.Fatalf("receive %d: %s", i, show(c))
		}
		r.a.expect(fabric.Send, uint64(i), nil)
		if posted < len(ops) {
			if n := r.b.conn.Post(ops[posted : posted+1]); n != 1 {
				r.Fatalf("after %d receives were polled there is no room for one more", i+1)
			}
			posted++
		}
	}
}
