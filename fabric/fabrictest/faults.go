package fabrictest

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"whale/fabric"
	"whale/pmem"
)

func init() {
	register("an error ends the connection", checkFaults)
	register("an error flushes receives", checkFaultFlushesReceives)
	register("an error leaves other connections alone", checkFaultIsLocal)
	register("bad local memory of a Recv", checkBadRecv)
	register("rights", checkRights)
	register("Register refuses what is not there", checkRegister)
}

// fault is an operation that must fail, and how.
type fault struct {
	name string
	op   fabric.Op
	want error
}

// outside are ranges that do not fit into an area of the size, the sums of some of which overflow.
func outside(size uint64) [][2]uint64 {
	const top = math.MaxUint64
	return [][2]uint64{
		{size, 1}, {size - 1, 2}, {0, size + 1}, {size + 1, 1}, {size, 8}, {size - 8, 9},
		{top, 1}, {top, 2}, {top - 7, 8}, {top - 6, 8}, {8, top - 7}, {1, top}, {0, top}, {top, top}, {1 << 63, 1 << 63}, {1 << 63, 8},
	}
}

func (r *rig) faults(local, remote *area) []fault {
	var out []fault
	add := func(want error, op fabric.Op, format string, args ...any) {
		out = append(out, fault{kindName(op.Kind) + ", " + fmt.Sprintf(format, args...), op, want})
	}
	good := []fabric.Op{
		write(0, local, 0, remote, 0, 8, 0), read(0, local, 0, remote, 0, 8, 0), write8(0, remote, 0, 1, 0),
		flush(0, remote, fabric.Visible, fabric.Range, 0),
	}
	if r.a.conn.Caps().Atomics {
		good = append(good, compareSwap(0, remote, 0, 0, 1, 0), fetchAdd(0, remote, 0, 1, 0))
	}
	if r.a.conn.Caps().Domain != pmem.None {
		good = append(good, flush(0, remote, fabric.Durable, fabric.Range, 0), flush(0, remote, fabric.Durable, fabric.Region, 0))
	}
	localOnly := r.area(r.b, 64, fabric.LocalOnly)
	for _, op := range good {
		for _, key := range []fabric.Key{0, remote.key ^ 1<<62, remote.key ^ 1<<40, math.MaxUint64, local.key, localOnly.key} {
			bad := op
			bad.Remote.Key = key
			add(fabric.ErrAccess, bad, "remote key %#x", key)
		}
		for _, at := range outside(remote.size) {
			bad := op
			bad.Remote.Off = at[0]
			switch op.Kind {
			case fabric.Write, fabric.Read:
				if bad.Len = at[1]; at[1] > local.size {
					add(nil, bad, "%d bytes at %d", at[1], at[0]) // local memory is too short as well: any error
					continue
				}
			case fabric.Flush:
				if bad.Len = at[1]; op.B == fabric.Region {
					continue
				}
			default:
				if bad.Remote.Off &^= 7; bad.Remote.Off < remote.size {
					continue
				}
			}
			add(fabric.ErrAccess, bad, "%d bytes at %d", bad.Len, bad.Remote.Off)
		}
	}
	odd := r.area(r.b, 60, allRights) // its last word is not all its own
	for _, op := range good {
		if op.Kind == fabric.Write8 || op.Kind == fabric.CompareSwap || op.Kind == fabric.FetchAdd {
			op.Remote = odd.addr(56)
			add(fabric.ErrAccess, op, "a word half outside")
		}
	}
	for _, op := range []fabric.Op{good[0], good[1], send(0, local, 0, 8, 0)} {
		for _, key := range []fabric.Key{0, local.key ^ 1<<62, math.MaxUint64, remote.key} {
			bad := op
			bad.Local.Key = key
			add(fabric.ErrLocal, bad, "local key %#x", key)
		}
		for _, at := range outside(local.size) {
			bad := op
			bad.Local.Off, bad.Len = at[0], at[1]
			if at[1] > remote.size || (op.Kind == fabric.Send && at[1] > uint64(r.a.conn.Caps().MaxSend)) {
				add(nil, bad, "%d bytes at local %d", at[1], at[0])
				continue
			}
			add(fabric.ErrLocal, bad, "%d bytes at local %d", at[1], at[0])
		}
	}
	for _, op := range good {
		if op.Kind == fabric.Write8 || op.Kind == fabric.CompareSwap || op.Kind == fabric.FetchAdd {
			for _, off := range []uint64{1, 4, 7, remote.size - 1} {
				bad := op
				bad.Remote.Off = off
				add(fabric.ErrOp, bad, "misaligned at %d", off)
			}
		}
	}
	for _, kind := range []fabric.Kind{0, fabric.Recv + 1, 100, 255} {
		bad := good[0]
		bad.Kind = kind
		add(fabric.ErrOp, bad, "unknown kind")
	}
	for _, ab := range [][2]uint64{{0, 0}, {3, 0}, {fabric.Visible, 2}, {fabric.Durable, math.MaxUint64}, {math.MaxUint64, 1}} {
		add(fabric.ErrOp, flush(0, remote, ab[0], ab[1], 0), "placement %d, selectivity %d", ab[0], ab[1])
	}
	for _, placement := range []uint64{fabric.Durable + 1, math.MaxUint64} {
		f := fence(0, 0)
		f.A = placement
		add(fabric.ErrOp, f, "placement %d", placement)
	}
	for flag, kinds := range map[fabric.Flags][]fabric.Op{
		1 << 6: good, 1 << 7: good,
		fabric.WriteThrough:                      append([]fabric.Op{send(0, local, 0, 8, 0), fence(0, 0), good[1]}, good[3:]...),
		fabric.NonTemporal:                       append([]fabric.Op{send(0, local, 0, 8, 0), fence(0, 0), good[1]}, good[3:]...),
		fabric.WriteThrough | fabric.NonTemporal: {good[0], good[2]},
		fabric.Notify:                            append([]fabric.Op{fence(0, 0), good[1]}, good[3:]...),
		fabric.Inline:                            append([]fabric.Op{fence(0, 0), good[1]}, good[3:]...),
	} {
		for _, op := range kinds {
			op.Flags = flag
			add(fabric.ErrOp, op, "flag %08b", flag)
		}
	}
	return out
}

// checkFaults: each bad operation fails with its error behind good ones before it, flushes everything behind it, posted
// already or later, signaled or not, and changes no byte anywhere.
func checkFaults(r *rig) {
	local, remote := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	limit := uint64(r.a.conn.Caps().MaxSend)
	big := r.area(r.a, max(limit, uint64(r.a.conn.Caps().Inline))+1, fabric.LocalOnly)
	all := append(r.faults(local, remote), fault{"Send, longer than MaxSend", send(0, big, 0, limit+1, 0), fabric.ErrOp})
	inline := write(0, big, 0, remote, 0, uint64(r.a.conn.Caps().Inline)+1, fabric.Inline)
	if inline.Len <= remote.size {
		all = append(all, fault{"Write, longer than Inline", inline, fabric.ErrOp})
	}
	for i, f := range all {
		pattern(uint64(i), local.bytes())
		clear(remote.bytes())
		want := make([]byte, remote.size)
		copy(want[:100], local.bytes())
		localBefore := bytes.Clone(local.bytes())

		f.op.ID = 2
		if i%2 == 0 {
			f.op.Flags |= fabric.Signaled
		}
		r.a.post(
			write(1, local, 0, remote, 0, 100, fabric.Signaled),
			f.op,
			write(3, local, 0, remote, 100, 100, 0),
			write8(4, remote, 200, 1, fabric.Signaled),
			send(5, local, 0, 8, 0),
			flush(6, remote, fabric.Visible, fabric.Region, fabric.Signaled))
		step := func(c fabric.Completion, id uint64, want error) {
			r.Helper()
			if c.ID != id || c.Err == nil || want != nil && !errors.Is(c.Err, want) {
				r.Fatalf("%s: completion %s, want ID %d, %v", f.name, show(c), id, want)
			}
		}
		if c := r.a.next(); c.ID != 1 || c.Err != nil {
			r.Fatalf("%s: the good Write before it ended with %s", f.name, show(c))
		}
		c := r.a.next()
		step(c, 2, f.want)
		if f.want == nil && !errors.Is(c.Err, fabric.ErrAccess) && !errors.Is(c.Err, fabric.ErrLocal) && !errors.Is(c.Err, fabric.ErrOp) {
			r.Fatalf("%s: ended with %v, want ErrAccess, ErrLocal or ErrOp", f.name, c.Err)
		}
		for id := uint64(3); id <= 6; id++ {
			step(r.a.next(), id, fabric.ErrFlushed)
		}
		r.a.post(write(7, local, 0, remote, 100, 100, 0), write(8, local, 0, remote, 100, 100, fabric.Signaled))
		step(r.a.next(), 7, fabric.ErrFlushed)
		step(r.a.next(), 8, fabric.ErrFlushed)
		r.idle()
		if d := firstDiff(remote.bytes(), want); d >= 0 {
			r.Fatalf("%s: remote byte %d is %#02x, want %#02x", f.name, d, remote.bytes()[d], want[d])
		}
		if d := firstDiff(local.bytes(), localBefore); d >= 0 {
			r.Fatalf("%s: local byte %d changed", f.name, d)
		}
		r.reconnect()
	}
}

func checkFaultFlushesReceives(r *rig) {
	local, remote := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	for i := range uint64(3) {
		r.a.post(recv(i, local, 0, 64))
	}
	bad := write(9, local, 0, remote, 1000, 8, 0)
	r.a.post(bad)
	r.a.expect(fabric.Write, 9, fabric.ErrAccess)
	r.a.post(recv(3, local, 0, 64))
	for i := range uint64(4) {
		if c := r.a.nextReceived(); c.ID != i || !errors.Is(c.Err, fabric.ErrFlushed) {
			r.Fatalf("receive %d after an error: %s, want ErrFlushed", i, show(c))
		}
	}
}

func checkFaultIsLocal(r *rig) {
	local, remote := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	a2, b2, _, err := r.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
	if err != nil {
		r.Fatalf("second connection: %v", err)
	}
	defer b2.Close()
	defer a2.Close()
	other := &side{r: r, ep: r.A, conn: a2}
	pattern(1, local.bytes())
	other.post(write(1, local, 0, remote, 0, 128, fabric.Signaled))
	r.a.post(write(9, local, 0, remote, 300, 8, 0))
	r.a.expect(fabric.Write, 9, fabric.ErrAccess)
	other.post(write(2, local, 128, remote, 128, 128, fabric.Signaled))
	other.expect(fabric.Write, 1, nil)
	other.expect(fabric.Write, 2, nil)
	other.settle(remote)
	if d := firstDiff(remote.bytes(), local.bytes()); d >= 0 {
		r.Fatalf("byte %d of a Write on a sound connection did not arrive", d)
	}
}

// checkBadRecv: when the provider looks at the buffer of a Recv, at once or when it is used, is its affair.
func checkBadRecv(r *rig) {
	local, into := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	var bad []fabric.Op
	for _, key := range []fabric.Key{0, into.key ^ 1<<62, local.key} {
		op := recv(4, into, 0, 8)
		op.Local.Key = key
		bad = append(bad, op)
	}
	for _, at := range outside(into.size) {
		bad = append(bad, recv(4, into, at[0], at[1]))
	}
	for _, op := range bad {
		r.b.post(op)
		r.a.post(send(1, local, 0, 8, 0))
		if c := r.b.nextReceived(); c.ID != 4 || !errors.Is(c.Err, fabric.ErrLocal) {
			r.Fatalf("Recv of %d bytes at key %#x, offset %d: %s, want ErrLocal", op.Len, op.Local.Key, op.Local.Off, show(c))
		}
		r.reconnect()
	}
	flagged := recv(4, into, 0, 8)
	flagged.Flags = fabric.Notify
	r.b.post(flagged)
	r.a.post(send(1, local, 0, 8, 0))
	if c := r.b.nextReceived(); c.ID != 4 || !errors.Is(c.Err, fabric.ErrOp) {
		r.Fatalf("Recv with the flag Notify: %s, want ErrOp", show(c))
	}
}

// checkRights: each operation against each set of rights.
func checkRights(r *rig) {
	local := r.area(r.a, 64, fabric.LocalOnly)
	caps := r.a.conn.Caps()
	for rights := range allRights + 1 {
		remote := r.area(r.b, 64, rights)
		ops := []struct {
			op    fabric.Op
			needs fabric.Rights
		}{
			{read(1, local, 0, remote, 0, 8, fabric.Signaled), fabric.RemoteRead},
			{write(1, local, 0, remote, 0, 8, fabric.Signaled), fabric.RemoteWrite},
			{write8(1, remote, 8, 5, fabric.Signaled), fabric.RemoteWrite},
			{compareSwap(1, remote, 16, 0, 5, fabric.Signaled), fabric.RemoteAtomic},
			{fetchAdd(1, remote, 24, 5, fabric.Signaled), fabric.RemoteAtomic},
			{flush(1, remote, fabric.Durable, fabric.Range, fabric.Signaled), fabric.RemoteFlush},
			{flush(1, remote, fabric.Durable, fabric.Region, fabric.Signaled), fabric.RemoteFlush},
			{flush(1, remote, fabric.Visible, fabric.Range, fabric.Signaled), allRights},
			{flush(1, remote, fabric.Visible, fabric.Region, fabric.Signaled), allRights},
		}
		for _, o := range ops {
			if o.needs == fabric.RemoteAtomic && !caps.Atomics || o.needs == fabric.RemoteFlush && caps.Domain == pmem.None {
				continue
			}
			pattern(77, local.bytes())
			clear(remote.bytes())
			before := bytes.Clone(local.bytes())
			r.a.post(o.op)
			if rights&o.needs != 0 {
				r.a.expect(o.op.Kind, 1, nil)
				r.idle() // it may land later than it completes
				continue
			}
			r.a.expect(o.op.Kind, 1, fabric.ErrAccess)
			r.idle()
			if !bytes.Equal(remote.bytes(), make([]byte, 64)) || !bytes.Equal(local.bytes(), before) {
				r.Fatalf("%s against rights %04b was refused, and yet bytes changed", kindName(o.op.Kind), rights)
			}
			r.reconnect()
		}
	}
}

func checkRegister(r *rig) {
	m := r.NewMemory(r, r.B, 4096)
	size := uint64(len(m.Bytes()))
	for _, at := range outside(size) {
		if key, err := r.B.Register(m, at[0], at[1], allRights); err == nil {
			r.Errorf("Register of %d bytes at %d of a memory of %d bytes gave key %#x", at[1], at[0], size, key)
		}
	}
	if key, err := r.B.Register(m, 0, 64, allRights+1); err == nil {
		r.Errorf("Register with an unknown right gave key %#x", key)
	}
	seen := map[fabric.Key]bool{0: true}
	for i := range 500 {
		key, err := r.B.Register(m, 0, 64, allRights)
		if err != nil {
			r.Fatalf("Register %d: %v", i, err)
		}
		if seen[key] {
			r.Fatalf("Register gave key %#x, which is zero or was used before", key)
		}
		seen[key] = true
		if err := r.B.Revoke(key); err != nil && !errors.Is(err, fabric.ErrInFlight) {
			r.Fatalf("Revoke: %v", err)
		}
	}
}
