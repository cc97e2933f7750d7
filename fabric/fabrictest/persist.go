package fabrictest

import (
	"whale/fabric"
	"whale/pmem"
)

func init() {
	register("durable Fence", checkDurableFence)
	register("non-temporal writes land in order", checkNonTemporal)
}

// checkDurableFence: whatever is there of the writes behind the Fence, all written through before it is there. That it is
// durable, only memory with a crash model can tell: see the provider's own tests.
func checkDurableFence(r *rig) {
	local, remote := r.area(r.a, 2048, fabric.LocalOnly), r.area(r.b, 2048, allRights)
	f := fence(2, 0)
	f.A = fabric.Durable
	if r.a.conn.Caps().Domain == pmem.None {
		r.a.post(f)
		r.a.expect(fabric.Fence, 2, fabric.ErrUnsupported)
		return
	}
	var zero [1024]byte
	for i := uint64(1); i <= 50; i++ {
		pattern(i, local.bytes())
		f.Flags = 0
		if i%2 == 0 {
			f.Flags = fabric.Signaled
		}
		r.a.post(
			write(1, local, 0, remote, 0, 992, fabric.WriteThrough), write8(1, remote, 992, i, fabric.WriteThrough),
			f, write(3, local, 1024, remote, 1024, 1024, fabric.Signaled|fabric.WriteThrough))
		r.until("a byte behind the Fence is visible", func() bool {
			return firstDiff(remote.bytes()[1024:], zero[:]) >= 0
		})
		if d := firstDiff(remote.bytes()[:992], local.bytes()); d >= 0 || remote.word(992) != i {
			r.Fatalf("round %d: bytes posted behind the Fence are visible, byte %d from before it is not", i, d)
		}
		if f.Flags != 0 {
			r.a.expect(fabric.Fence, 2, nil)
		}
		r.a.expect(fabric.Write, 3, nil)
		r.a.settle(remote)
		clear(remote.bytes())
	}
	// Its completion, unlike that of a visible one, says that all has landed.
	for i := uint64(1); i <= 20; i++ {
		pattern(i, local.bytes())
		f.Flags = fabric.Signaled
		r.a.post(write(1, local, 0, remote, 0, 2048, fabric.WriteThrough), f)
		r.a.expect(fabric.Fence, 2, nil)
		if d := firstDiff(remote.bytes(), local.bytes()); d >= 0 {
			r.Fatalf("round %d: the durable Fence has completed, and byte %d from before it is not there", i, d)
		}
	}
}

// checkNonTemporal: a byte of a later write is never there before all of an earlier one, and a Read behind them completes
// when all are.
func checkNonTemporal(r *rig) {
	const n, each = 20, 120
	local, remote := r.area(r.a, 2*n*each, fabric.LocalOnly), r.area(r.b, n*each, allRights)
	if !r.a.conn.Caps().NonTemporal {
		for _, op := range []fabric.Op{write(1, local, 0, remote, 0, 8, fabric.NonTemporal), write8(1, remote, 0, 1, fabric.NonTemporal)} {
			r.a.post(op)
			r.a.expect(op.Kind, 1, fabric.ErrUnsupported)
			r.reconnect()
		}
		return
	}
	var zero [each]byte
	for round := uint64(1); round <= 20; round++ {
		pattern(round, local.bytes()[:n*each])
		var ops []fabric.Op
		for i := range uint64(n) { // downwards, so that order is not that of the places
			at := (n - 1 - i) * each
			op := write(i, local, at, remote, at, each, fabric.NonTemporal)
			if i%5 == 2 {
				op = write8(i, remote, at, local.mem.Load64(guard+at), fabric.NonTemporal)
				copy(local.bytes()[at+8:at+each], zero[:])
			}
			ops = append(ops, op)
		}
		ops = append(ops, read(n, local, n*each, remote, 0, n*each, fabric.Signaled))
		r.a.post(ops...)
		there := func(i uint64) bool { // a byte of write i
			return firstDiff(remote.bytes()[i*each:(i+1)*each], zero[:]) >= 0
		}
		for i := range uint64(n - 1) {
			r.until("a byte of the next write is visible", func() bool { return there(i) })
			// i is the place; all places above belong to earlier writes.
			for at := i + 1; at < n; at++ {
				if d := firstDiff(remote.bytes()[at*each:(at+1)*each], local.bytes()[at*each:]); d >= 0 {
					r.Fatalf("round %d: a byte of the write to place %d is visible, byte %d of the earlier one to place %d is not", round, i, d, at)
				}
			}
		}
		r.a.expect(fabric.Read, n, nil)
		if d := firstDiff(remote.bytes(), local.bytes()[:n*each]); d >= 0 {
			r.Fatalf("round %d: the Read behind the writes has completed, and byte %d is not there", round, d)
		}
		clear(remote.bytes())
	}
}
