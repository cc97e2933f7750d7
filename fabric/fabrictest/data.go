package fabrictest

import (
	"bytes"
	"fmt"
	"math"

	"whale/fabric"
	"whale/pmem"
)

func init() {
	register("write", checkWrite)
	register("read", checkRead)
	register("write8", checkWrite8)
	register("atomics", checkAtomics)
	register("flush", checkFlush)
	register("inline", checkInline)
	register("immediate", checkImmediate)
	register("local memory is free after completion", checkLocalReuse)
	register("zero length", checkZeroLength)
}

var sizes = []uint64{1, 7, 8, 9, 63, 64, 65, 255, 4096, 64<<10 + 3}

// checkWrite: every byte arrives where it belongs, and nothing else changes, for all alignments.
func checkWrite(r *rig) {
	local, remote := r.area(r.a, 128<<10, fabric.LocalOnly), r.area(r.b, 128<<10, allRights)
	want := make([]byte, remote.size)
	for i, n := range sizes {
		for _, off := range []uint64{0, 3, 64, 4093, remote.size - n} {
			for _, flags := range []fabric.Flags{0, fabric.WriteThrough, fabric.Fenced, fabric.Notify} {
				from := (off * 7) % (local.size - n)
				pattern(uint64(i)<<32|off<<8|uint64(flags), local.bytes()[from:from+n])
				copy(want[off:], local.bytes()[from:from+n])
				r.a.post(write(1, local, from, remote, off, n, flags|fabric.Signaled))
				r.a.expect(fabric.Write, 1, nil)
				r.a.settle(remote)
				if d := firstDiff(remote.bytes(), want); d >= 0 {
					r.Fatalf("Write of %d bytes at %d, flags %08b: byte %d is %#02x, want %#02x", n, off, flags, d, remote.bytes()[d], want[d])
				}
			}
		}
	}
}

// checkRead: as checkWrite, the other way.
func checkRead(r *rig) {
	local, remote := r.area(r.a, 128<<10, fabric.LocalOnly), r.area(r.b, 128<<10, fabric.RemoteRead)
	pattern(4, remote.bytes())
	before := bytes.Clone(remote.bytes())
	want := make([]byte, local.size)
	for _, n := range sizes {
		for _, off := range []uint64{0, 5, 64, 4091, remote.size - n} {
			into := (off * 11) % (local.size - n)
			copy(want[into:], remote.bytes()[off:off+n])
			r.a.do(read(0, local, into, remote, off, n, 0))
			if d := firstDiff(local.bytes(), want); d >= 0 {
				r.Fatalf("Read of %d bytes at %d: local byte %d is %#02x, want %#02x", n, off, d, local.bytes()[d], want[d])
			}
		}
	}
	if d := firstDiff(remote.bytes(), before); d >= 0 {
		r.Fatalf("Read changed byte %d of what it read", d)
	}
}

func checkWrite8(r *rig) {
	remote := r.area(r.b, 256, fabric.RemoteWrite)
	want := make([]uint64, 32)
	for i, v := range []uint64{0, 1, math.MaxUint64, 0x0102030405060708, 1 << 63, 42} {
		for _, off := range []uint64{0, 8, 128, 248} {
			r.a.do(write8(0, remote, off, v+off, fabric.Flags(i%2)*fabric.Notify))
			r.a.settle(remote)
			want[off/8] = v + off
			for w := range want {
				if got := remote.word(uint64(w) * 8); got != want[w] {
					r.Fatalf("Write8 of %#x at %d: word at %d is %#x, want %#x", v+off, off, w*8, got, want[w])
				}
			}
		}
	}
}

func checkAtomics(r *rig) {
	remote := r.area(r.b, 64, fabric.RemoteAtomic)
	if !r.a.conn.Caps().Atomics {
		for _, op := range []fabric.Op{fetchAdd(1, remote, 0, 1, 0), compareSwap(1, remote, 0, 0, 1, 0)} {
			r.a.post(op)
			r.a.expect(op.Kind, 1, fabric.ErrUnsupported)
			r.reconnect()
		}
		return
	}
	word := uint64(0)
	must := func(op fabric.Op, before, after uint64) {
		r.Helper()
		if got := r.a.do(op).Value; got != before {
			r.Fatalf("%s returned %#x, want the word before, %#x", kindName(op.Kind), got, before)
		}
		if got := remote.word(op.Remote.Off); got != after {
			r.Fatalf("%s left %#x, want %#x", kindName(op.Kind), got, after)
		}
		word = after
	}
	for _, off := range []uint64{0, 8, 56} {
		word = 0
		must(fetchAdd(0, remote, off, 5, 0), word, 5)
		must(fetchAdd(0, remote, off, math.MaxUint64, 0), word, 4)
		must(compareSwap(0, remote, off, 4, 1<<63, 0), word, 1<<63)
		must(compareSwap(0, remote, off, 4, 9, 0), word, 1<<63)
		must(fetchAdd(0, remote, off, 1<<63, 0), word, 0)
		must(compareSwap(0, remote, off, 0, math.MaxUint64, 0), word, math.MaxUint64)
		must(fetchAdd(0, remote, off, 0, 0), word, math.MaxUint64)
		must(fetchAdd(0, remote, off, 2, fabric.Fenced), word, 1)
	}
	for _, off := range []uint64{16, 24, 32, 40, 48} {
		if remote.word(off) != 0 {
			r.Fatalf("an atomic changed the word at %d, which is not its own", off)
		}
	}
	// Both ends of two connections count in one word, and none is lost.
	a2, b2, _, err := r.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
	if err != nil {
		r.Fatalf("second connection: %v", err)
	}
	defer b2.Close()
	defer a2.Close()
	other := &side{r: r, ep: r.A, conn: a2}
	for range 20 {
		r.a.post(fetchAdd(1, remote, 16, 1, fabric.Signaled))
		other.post(fetchAdd(2, remote, 16, 1<<32, fabric.Signaled))
	}
	for range 20 {
		r.a.expect(fabric.FetchAdd, 1, nil)
		other.expect(fabric.FetchAdd, 2, nil)
	}
	if got := remote.word(16); got != 20<<32|20 {
		r.Fatalf("20 additions of 1 and 20 of 1<<32 over two connections left %#x", got)
	}
}

// checkFlush: what was written without a completion is there once the Flush behind it has completed.
func checkFlush(r *rig) {
	local, remote := r.area(r.a, 4096, fabric.LocalOnly), r.area(r.b, 4096, allRights)
	round := uint64(0)
	for _, placement := range []uint64{fabric.Visible, fabric.Durable} {
		for _, selectivity := range []uint64{fabric.Range, fabric.Region} {
			if placement == fabric.Durable && r.a.conn.Caps().Domain == pmem.None {
				r.a.post(flush(1, remote, placement, selectivity, 0))
				r.a.expect(fabric.Flush, 1, fabric.ErrUnsupported)
				r.reconnect()
				continue
			}
			round++
			pattern(round, local.bytes())
			for off := uint64(0); off < remote.size; off += 512 {
				r.a.post(write(0, local, off, remote, off, 512, 0))
			}
			f := flush(round, remote, placement, selectivity, fabric.Signaled)
			if selectivity == fabric.Region {
				f.Remote.Off, f.Len = math.MaxUint64, math.MaxUint64 // mean nothing here
			}
			r.a.post(f)
			r.a.expect(fabric.Flush, round, nil)
			if d := firstDiff(remote.bytes(), local.bytes()); d >= 0 {
				r.Fatalf("Flush (placement %d, selectivity %d) completed, and byte %d is not there", placement, selectivity, d)
			}
		}
	}
}

func checkInline(r *rig) {
	limit := uint64(r.a.conn.Caps().Inline)
	if limit == 0 {
		return
	}
	local, remote := r.area(r.a, limit, fabric.LocalOnly), r.area(r.b, limit*16, allRights)
	want := make([]byte, remote.size)
	for i := range uint64(16) {
		n := limit - i%limit
		pattern(i, local.bytes())
		copy(want[i*limit:], local.bytes()[:n])
		r.a.post(write(i, local, 0, remote, i*limit, n, fabric.Inline))
		clear(local.bytes())
	}
	r.a.settle(remote)
	if d := firstDiff(remote.bytes(), want); d >= 0 {
		r.Fatalf("Inline Write: byte %d is %#02x, want %#02x, as it was at Post", d, remote.bytes()[d], want[d])
	}
	into := r.area(r.b, limit, fabric.LocalOnly)
	pattern(99, local.bytes())
	sent := bytes.Clone(local.bytes())
	r.b.post(recv(1, into, 0, limit))
	r.a.post(send(1, local, 0, limit, fabric.Inline))
	clear(local.bytes())
	if c := r.b.nextReceived(); c.Err != nil || c.Value != limit {
		r.Fatalf("Inline Send of %d bytes: received {%d bytes, %v}", limit, c.Value, c.Err)
	}
	if d := firstDiff(into.bytes(), sent); d >= 0 {
		r.Fatalf("Inline Send: byte %d is %#02x, want %#02x, as it was at Post", d, into.bytes()[d], sent[d])
	}
}

// checkImmediate: a provider that says so has taken the local bytes when Post returns, however many they are.
func checkImmediate(r *rig) {
	if !r.a.conn.Caps().Immediate {
		return
	}
	for i, n := range []uint64{8, 64, 383, 384, 4096, 3 << 20} {
		for _, flag := range []fabric.Flags{0, fabric.WriteThrough, fabric.NonTemporal} {
			local, remote := r.area(r.a, n, fabric.LocalOnly), r.area(r.b, n, allRights)
			pattern(uint64(i), local.bytes())
			want := bytes.Clone(local.bytes())
			r.a.post(write(1, local, 0, remote, 0, n, flag))
			clear(local.bytes())
			r.a.settle(remote)
			if d := firstDiff(remote.bytes(), want); d >= 0 {
				r.Fatalf("Write of %d bytes, flags %#x: byte %d is %#02x, want %#02x, as it was at Post", n, flag, d, remote.bytes()[d], want[d])
			}
		}
	}
}

// checkLocalReuse: a completion gives the local bytes back, also of unsignaled operations before it.
func checkLocalReuse(r *rig) {
	local, remote := r.area(r.a, 8192, fabric.LocalOnly), r.area(r.b, 8192, allRights)
	pattern(1, local.bytes())
	want := bytes.Clone(local.bytes())
	r.a.post(write(0, local, 0, remote, 0, 4096, 0), write(1, local, 4096, remote, 4096, 4096, fabric.Signaled))
	r.a.expect(fabric.Write, 1, nil)
	clear(local.bytes())
	r.a.settle(remote)
	if d := firstDiff(remote.bytes(), want); d >= 0 {
		r.Fatalf("byte %d is %#02x, want %#02x: the local memory was read after the completion", d, remote.bytes()[d], want[d])
	}
}

func checkZeroLength(r *rig) {
	local, remote := r.area(r.a, 64, fabric.LocalOnly), r.area(r.b, 64, allRights)
	into := r.area(r.b, 64, fabric.LocalOnly)
	for _, a := range []*area{local, remote, into} {
		pattern(7, a.bytes())
	}
	want := bytes.Clone(remote.bytes())
	for _, off := range []uint64{0, 5, 64} {
		r.a.do(write(0, local, off, remote, off, 0, 0))
		r.a.do(read(0, local, off, remote, off, 0, 0))
		f := flush(0, remote, fabric.Visible, fabric.Range, 0)
		f.Remote.Off, f.Len = off, 0
		r.a.do(f)
		r.b.post(recv(off, into, off, 0))
		r.a.do(send(0, local, off, 0, 0))
		if c := r.b.nextReceived(); c.Err != nil || c.Value != 0 || c.ID != off {
			r.Fatalf("empty message into an empty buffer: received %s", show(c))
		}
	}
	for i, a := range []*area{local, remote, into} {
		if !bytes.Equal(a.bytes(), want) {
			r.Fatalf("operations of length 0 changed area %d", i)
		}
	}
}

func show(c fabric.Completion) string {
	return fmt.Sprintf("{ID %d, %s, value %d, %v}", c.ID, kindName(c.Kind), c.Value, c.Err)
}
