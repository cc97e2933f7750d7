package shm

import (
	"testing"
	"time"

	"whale/fabric"
)

// wired is a connection with memory at both ends.
type wired struct {
	a, b          *Endpoint
	ab, ba        *conn
	local, remote fabric.Key
	from, to      []byte
}

func wire(t testing.TB, size uint64) *wired {
	t.Helper()
	p := newPair(t)
	w := &wired{a: p.A.(*Endpoint), b: p.B.(*Endpoint), ab: p.AB.(*conn), ba: p.BA.(*conn)}
	from, to := mapped(t, size), mapped(t, size)
	w.from, w.to = from.Bytes(), to.Bytes()
	w.local, w.remote = register(t, w.a, from, fabric.LocalOnly), register(t, w.b, to, allRights)
	return w
}

func (w *wired) write(off, n uint64, flags fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write, Flags: flags, Local: fabric.Span{Key: w.local, Off: off}, Remote: fabric.Addr{Key: w.remote, Off: off}, Len: n}
}

func (w *wired) flush(flags fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Flush, Flags: flags, Remote: fabric.Addr{Key: w.remote}, A: fabric.Durable, B: fabric.Region}
}

// exchange posts all of ops and polls once, as a loop with signaled batches does.
func (w *wired) exchange(t testing.TB, ops []fabric.Op, done []fabric.Completion, want int) {
	if n := w.ab.Post(ops); n != len(ops) {
		t.Fatalf("Post took %d of %d", n, len(ops))
	}
	if n := w.ab.Poll(done); n != want || want > 0 && done[n-1].Err != nil {
		t.Fatalf("%d completions, want %d: %v", n, want, done[:n])
	}
}

func benchmark(b *testing.B, per int, ops []fabric.Op, w *wired, want int) {
	done := make([]fabric.Completion, 8)
	w.exchange(b, ops, done, want)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += per {
		w.exchange(b, ops, done, want)
	}
}

func BenchmarkWrite64Alone(b *testing.B) {
	w := wire(b, 1<<16)
	benchmark(b, 1, []fabric.Op{w.write(0, 64, fabric.Signaled)}, w, 1)
}

// BenchmarkWrite64Batched: nanoseconds for each of 64 writes in a batch.
func BenchmarkWrite64Batched(b *testing.B) {
	w := wire(b, 1<<16)
	var ops []fabric.Op
	for i := range uint64(64) {
		ops = append(ops, w.write(64*i, 64, 0))
	}
	ops[63].Flags |= fabric.Signaled
	benchmark(b, 64, ops, w, 1)
}

func BenchmarkWrite4096(b *testing.B) {
	w := wire(b, 1<<16)
	b.SetBytes(4096)
	benchmark(b, 1, []fabric.Op{w.write(0, 4096, fabric.Signaled)}, w, 1)
}

// BenchmarkWriteFlushNotify: a slot, a durable flush, and a peer that is not parked.
func BenchmarkWriteFlushNotify(b *testing.B) {
	w := wire(b, 1<<16)
	benchmark(b, 1, []fabric.Op{w.write(0, 64, fabric.Notify), w.flush(fabric.Signaled)}, w, 1)
}

func BenchmarkPollIdle(b *testing.B) {
	w := wire(b, 1<<16)
	w.ab.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: w.local}, Len: 64}})
	done := make([]fabric.Completion, 8)
	for b.Loop() {
		w.ab.Poll(done)
	}
}

func BenchmarkSendReceive64(b *testing.B) {
	w := wire(b, 1<<16)
	key := register(b, w.b, mapped(b, 4096), fabric.LocalOnly)
	done := make([]fabric.Completion, 8)
	recv := []fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: 64}}
	send := []fabric.Op{{Kind: fabric.Send, Local: fabric.Span{Key: w.local}, Len: 64}}
	b.ReportAllocs()
	for b.Loop() {
		w.ba.Post(recv)
		w.exchange(b, send, done, 0)
		if w.ba.Poll(done) != 1 || done[0].Err != nil {
			b.Fatal(done[0])
		}
	}
}

// BenchmarkPingPongParked: a round trip between two processes, each of which polls once or twice and parks.
func BenchmarkPingPongParked(b *testing.B) {
	lost, parked, took := pingPong(b, 2*uint64(b.N), 2*time.Second, "right", true)
	if lost != 0 {
		b.Fatalf("wake-up of turn %d lost", lost)
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(parked)/float64(b.N), "parked/op")
}
