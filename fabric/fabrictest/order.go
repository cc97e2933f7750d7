package fabrictest

import (
	"math"

	"whale/fabric"
)

func init() {
	register("later write wins", checkLaterWins)
	register("Write8 behind Write", checkWrite8Behind)
	register("Fence", checkFence)
	register("Fenced", checkFenced)
	register("a Read and an atomic see what was written before", checkReadAfterWrite)
	register("signaled in order, unsignaled silent", checkCompletions)
	register("Poll fills no more than dst", checkPollSpace)
	register("batches", checkBatches)
}

func checkLaterWins(r *rig) {
	const n = 200
	local, remote := r.area(r.a, 256*n, fabric.LocalOnly), r.area(r.b, 512, allRights)
	pattern(3, local.bytes())
	want := make([]byte, remote.size)
	for i := range uint64(n) {
		off, length := i*37%256, 8+i*13%248
		copy(want[off:off+length], local.bytes()[i*256:])
		r.a.post(write(i, local, i*256, remote, off, length, 0))
		if i%50 == 49 {
			r.a.settle(remote)
			if d := firstDiff(remote.bytes(), want); d >= 0 {
				r.Fatalf("after %d overlapping Writes byte %d is not the last one written there", i+1, d)
			}
		}
	}
}

// checkWrite8Behind: whoever sees the word sees what was written before it, at every moment.
func checkWrite8Behind(r *rig) {
	local, remote := r.area(r.a, 1024, fabric.LocalOnly), r.area(r.b, 1024+8, allRights)
	for i := uint64(1); i <= 50; i++ {
		pattern(i, local.bytes())
		var ops []fabric.Op
		for off := uint64(0); off < 1024; off += 256 {
			ops = append(ops, write(0, local, off, remote, off, 256, 0))
		}
		ops = append(ops, write8(i, remote, 1024, i, fabric.Signaled))
		if i%2 == 0 { // in one batch or one by one
			r.a.post(ops...)
		} else {
			for _, op := range ops {
				r.a.post(op)
			}
		}
		r.until("the word is visible", func() bool { return remote.word(1024) == i })
		if d := firstDiff(local.bytes(), remote.bytes()); d >= 0 {
			r.Fatalf("the word of Write8 %d is visible, byte %d written before it is not", i, d)
		}
		r.a.expect(fabric.Write8, i, nil)
	}
}

func checkFence(r *rig) {
	local, remote := r.area(r.a, 2048, fabric.LocalOnly), r.area(r.b, 2048, allRights)
	var zero [1024]byte
	for i := uint64(1); i <= 50; i++ {
		pattern(i, local.bytes())
		f := fence(2, 0)
		if i%2 == 0 {
			f.Flags = fabric.Signaled
		}
		r.a.post(write(1, local, 0, remote, 0, 1000, 0), f, write(3, local, 1024, remote, 1024, 1024, fabric.Signaled))
		// Bytes behind the Fence may come in any order: whichever is there first, all before the Fence are.
		r.until("a byte behind the Fence is visible", func() bool {
			return firstDiff(remote.bytes()[1024:], zero[:]) >= 0
		})
		if d := firstDiff(remote.bytes()[:1000], local.bytes()); d >= 0 {
			r.Fatalf("round %d: bytes posted behind the Fence are visible, byte %d from before it is not", i, d)
		}
		if f.Flags != 0 {
			r.a.expect(fabric.Fence, 2, nil)
		}
		r.a.expect(fabric.Write, 3, nil)
		r.a.settle(remote)
		clear(remote.bytes())
	}
}

// checkFenced: a Fenced Write does not overtake a Read of the same bytes.
func checkFenced(r *rig) {
	local, remote := r.area(r.a, 512, fabric.LocalOnly), r.area(r.b, 256, allRights)
	for i := uint64(1); i <= 50; i++ {
		pattern(i, local.bytes()[:256])
		r.a.post(
			read(1, local, 256, remote, 0, 256, 0),
			write(2, local, 0, remote, 0, 256, fabric.Fenced|fabric.Signaled))
		r.a.expect(fabric.Write, 2, nil)
		if i > 1 {
			want := make([]byte, 256)
			pattern(i-1, want)
			if d := firstDiff(local.bytes()[256:], want); d >= 0 {
				r.Fatalf("round %d: a Read saw byte %d of the Fenced Write posted after it", i, d)
			}
		}
		r.a.settle(remote)
	}
}

func checkReadAfterWrite(r *rig) {
	local, remote := r.area(r.a, 1024, fabric.LocalOnly), r.area(r.b, 512, allRights)
	for i := uint64(1); i <= 20; i++ {
		pattern(i, local.bytes()[:512])
		r.a.post(write(1, local, 0, remote, 0, 512, 0), read(2, local, 512, remote, 0, 512, fabric.Signaled))
		r.a.expect(fabric.Read, 2, nil)
		if d := firstDiff(local.bytes()[:512], local.bytes()[512:]); d >= 0 {
			r.Fatalf("a Read posted behind a Write missed byte %d of it", d)
		}
		if !r.a.conn.Caps().Atomics {
			continue
		}
		r.a.post(write8(3, remote, 8, i*1000, 0), fetchAdd(4, remote, 8, 7, fabric.Signaled))
		if c := r.a.expect(fabric.FetchAdd, 4, nil); c.Value != i*1000 {
			r.Fatalf("FetchAdd behind Write8 of %d found %d", i*1000, c.Value)
		}
	}
}

// checkCompletions: exactly the signaled ones, in post order over all kinds, with the IDs that were given.
func checkCompletions(r *rig) {
	local, remote := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	type want struct {
		kind fabric.Kind
		id   uint64
	}
	var wants []want
	rng := newRand(5)
	for i := range uint64(300) {
		id := i
		switch i % 50 {
		case 7:
			id = math.MaxUint64
		case 8:
			id = 0
		}
		var f fabric.Flags
		if rng.IntN(3) == 0 {
			f = fabric.Signaled
		}
		op := r.anyOp(rng.IntN(7), id, local, remote, f)
		r.a.post(op)
		if f != 0 {
			wants = append(wants, want{op.Kind, id})
		}
	}
	r.a.post(fence(0xEE, fabric.Signaled))
	for _, w := range wants {
		r.a.expect(w.kind, w.id, nil)
	}
	r.a.expect(fabric.Fence, 0xEE, nil)
	r.idle()
	if len(r.a.done) != 0 || len(r.a.received) != 0 || len(r.b.done) != 0 || len(r.b.received) != 0 {
		r.Fatalf("completions that nobody asked for: %v %v at A, %v %v at B", r.a.done, r.a.received, r.b.done, r.b.received)
	}
}

// anyOp is a harmless operation of one of seven kinds.
func (r *rig) anyOp(which int, id uint64, local, remote *area, f fabric.Flags) fabric.Op {
	if !r.a.conn.Caps().Atomics && which >= 5 {
		which -= 5
	}
	switch which {
	case 0:
		return write(id, local, 0, remote, 64, 100, f)
	case 1:
		return read(id, local, 128, remote, 128, 64, f)
	case 2:
		return write8(id, remote, 8, id, f)
	case 3:
		return flush(id, remote, fabric.Visible, fabric.Range, f)
	case 4:
		return fence(id, f)
	case 5:
		return compareSwap(id, remote, 0, 0, 0, f)
	default:
		return fetchAdd(id, remote, 16, 1, f)
	}
}

func checkPollSpace(r *rig) {
	local, remote := r.area(r.a, 64, fabric.LocalOnly), r.area(r.b, 64, allRights)
	n := min(9, r.a.conn.Caps().QueueDepth)
	for i := range n {
		r.a.post(write(uint64(i), local, 0, remote, 0, 8, fabric.Signaled))
	}
	if got := r.a.conn.Poll(nil); got != 0 {
		r.Fatalf("Poll(nil) returned %d", got)
	}
	for next := 0; next < n; {
		room := 1 + next%3
		space := make([]fabric.Completion, room+1)
		mark := fabric.Completion{ID: 0xBAD, Kind: 77}
		space[room] = mark
		r.until("a completion", func() bool {
			got := r.a.conn.Poll(space[:room])
			if got < 0 || got > room {
				r.Fatalf("Poll with room for %d returned %d", room, got)
			}
			for _, c := range space[:got] {
				if c.ID != uint64(next) || c.Err != nil {
					r.Fatalf("completion %s, want ID %d without an error", show(c), next)
				}
				next++
			}
			return got > 0
		})
		if space[room] != mark {
			r.Fatalf("Poll wrote beyond dst")
		}
	}
}

// checkBatches: a batch is its operations one after the other, whatever its size.
func checkBatches(r *rig) {
	local, remote := r.area(r.a, 64<<10, fabric.LocalOnly), r.area(r.b, 64<<10, allRights)
	pattern(8, local.bytes())
	want := make([]byte, remote.size)
	var ops []fabric.Op
	at := uint64(0)
	for size := range 40 {
		ops = ops[:0]
		for i := range size {
			n := at % 97
			ops = append(ops, write(uint64(i), local, at%5000, remote, at, n, 0))
			copy(want[at:at+n], local.bytes()[at%5000:])
			at += n
		}
		ops = append(ops, write8(uint64(size), remote, 65520, uint64(size), fabric.Signaled))
		r.a.post(ops...)
		for i := range ops {
			ops[i] = fabric.Op{Kind: 99, ID: 0xBAD} // Post has copied them
		}
		r.a.expect(fabric.Write8, uint64(size), nil)
		at = (at + 1) % 40000
	}
	r.a.settle(remote)
	if d := firstDiff(remote.bytes()[:65520], want); d >= 0 {
		r.Fatalf("byte %d is %#02x, want %#02x", d, remote.bytes()[d], want[d])
	}
	if n := r.a.conn.Post(nil); n != 0 {
		r.Fatalf("Post of nothing returned %d", n)
	}
}
