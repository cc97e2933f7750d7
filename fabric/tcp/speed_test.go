package tcp

import (
	"testing"
	"time"

	"whale/fabric"
)

// exchange posts all of ops and polls until the last one has completed.
func (w *wired) exchange(t testing.TB, ops []fabric.Op, done []fabric.Completion) {
	for rest := ops; len(rest) > 0; {
		n := w.ab.Post(rest)
		rest = rest[n:]
		if n == 0 {
			w.wait(t)
		}
	}
	for {
		for _, c := range done[:w.ab.Poll(done)] {
			if c.Err != nil {
				t.Fatal(c.Err)
			}
			if c.ID == 99 {
				return
			}
		}
		w.wait(t)
	}
}

func (w *wired) wait(t testing.TB) {
	if !w.a.Arm() {
		return
	}
	began := time.Now()
	if w.a.Wait(patience); time.Since(began) >= patience {
		t.Fatal("a wake-up was lost")
	}
}

// last marks the operation that exchange waits for.
func last(op fabric.Op) fabric.Op {
	op.ID = 99
	op.Flags |= fabric.Signaled
	return op
}

func (w *wired) all() []fabric.Op {
	remote := fabric.Addr{Key: w.remote}
	return []fabric.Op{
		w.write(0, 64, fabric.Notify), w.write(64, 64, fabric.Inline), w.write(0, 4096, fabric.WriteThrough), w.write(0, 200<<10, 0),
		{Kind: fabric.Read, Local: fabric.Span{Key: w.local}, Remote: remote, Len: 512}, {Kind: fabric.Read, Local: fabric.Span{Key: w.local}, Remote: remote, Len: 100 << 10},
		{Kind: fabric.Write8, Remote: remote}, {Kind: fabric.FetchAdd, Remote: remote}, {Kind: fabric.CompareSwap, Remote: remote, Flags: fabric.Fenced},
		{Kind: fabric.Fence}, {Kind: fabric.Flush, Remote: remote, A: fabric.Visible},
		last(fabric.Op{Kind: fabric.Flush, Remote: remote, A: fabric.Durable, B: fabric.Region}),
	}
}

// TestNoAllocation: on neither side, for no operation.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the detector allocates")
	}
	w := wire(t, 256<<10, Options{})
	ops, done := w.all(), make([]fabric.Completion, 8)
	into := register(t, w.b, w.to, fabric.LocalOnly)
	receive := []fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: into}, Len: 64}}
	message := []fabric.Op{last(fabric.Op{Kind: fabric.Send, Local: fabric.Span{Key: w.local}, Len: 64})}
	round := func() {
		w.exchange(t, ops, done)
		w.ba.Post(receive)
		w.exchange(t, message, done)
		if n := w.ba.Poll(done); n != 1 || done[0].Err != nil {
			t.Fatal(n, done[0].Err)
		}
	}
	round()
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations a round of %d operations", n, len(ops)+2)
	}
}

func benchmark(b *testing.B, per int, ops []fabric.Op, w *wired) {
	done := make([]fabric.Completion, 8)
	ops[len(ops)-1] = last(ops[len(ops)-1])
	w.exchange(b, ops, done)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += per {
		w.exchange(b, ops, done)
	}
}

func BenchmarkWrite64Alone(b *testing.B) {
	w := wire(b, 1<<20, Options{})
	benchmark(b, 1, []fabric.Op{w.write(0, 64, 0)}, w)
}

// BenchmarkWrite64Batched: nanoseconds for each of 64 writes in a batch.
func BenchmarkWrite64Batched(b *testing.B) {
	w := wire(b, 1<<20, Options{})
	var ops []fabric.Op
	for i := range uint64(64) {
		ops = append(ops, w.write(64*i, 64, 0))
	}
	benchmark(b, 64, ops, w)
}

func BenchmarkWrite4096(b *testing.B) {
	w := wire(b, 1<<20, Options{})
	b.SetBytes(4096)
	benchmark(b, 1, []fabric.Op{w.write(0, 4096, 0)}, w)
}

func BenchmarkWrite1M(b *testing.B) {
	w := wire(b, 1<<20, Options{})
	b.SetBytes(1 << 20)
	benchmark(b, 1, []fabric.Op{w.write(0, 1<<20, 0)}, w)
}

// BenchmarkWrite64TLS: a round trip, encrypted.
func BenchmarkWrite64TLS(b *testing.B) {
	w := wire(b, 1<<20, Options{TLS: certificate(b)})
	benchmark(b, 1, []fabric.Op{w.write(0, 64, 0)}, w)
}
