package timing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
	"whale/timing"
)

// commit writes one line and waits until it is durable at the mirror.
func (l *lab) commit(off uint64) {
	l.post(l.write(off, 64, 0), l.flush(fabric.Durable))
	l.wait(l.conn, 1)
}

// TestRunsAreEqual: the same seed gives the same clock to the nanosecond, another seed another one.
func TestRunsAreEqual(t *testing.T) {
	run := func(seed uint64) string {
		m, err := timing.New(timing.Default(), seed)
		if err != nil {
			t.Fatal(err)
		}
		a, b := m.Node("A"), m.Node("B")
		mem := b.Memory(pmem.Heap(1 << 16))
		key, err := b.Endpoint().Register(mem, 0, 1<<16, fabric.RemoteWrite)
		if err != nil {
			t.Fatal(err)
		}
		var threads []func()
		order := ""
		for i := range 5 {
			c, _ := m.Connect(a, b)
			threads = append(threads, func() {
				for n := range uint64(50) {
					c.Post([]fabric.Op{{Kind: fabric.Write8, Flags: fabric.Signaled, Remote: fabric.Addr{Key: key, Off: uint64(i) * 8}, A: n}})
					for c.Poll(make([]fabric.Completion, 1)) == 0 {
					}
					order += fmt.Sprint(i)
				}
			})
		}
		return fmt.Sprint(m.Run(threads...), order, m.Now())
	}
	first := run(1)
	for range 3 {
		if again := run(1); again != first {
			t.Fatalf("the same seed gives\n%s\nand then\n%s", first, again)
		}
	}
	if run(2) == first {
		t.Error("another seed gives the same times")
	}
}

// TestThreadsTakeTurns: a call happens at its thread's clock, when no other thread is earlier.
func TestThreadsTakeTurns(t *testing.T) {
	l := newLab(t, steady())
	var seen []time.Duration
	look := func(every time.Duration) func() {
		return func() {
			for range 20 {
				l.Compute(every)
				l.local.Load64(0)
				seen = append(seen, l.Now())
			}
		}
	}
	took := l.Run(look(100), look(170), look(33))
	if !slices.IsSorted(seen) {
		t.Errorf("calls happened at %v", seen)
	}
	want := []time.Duration{20 * (100 + 22), 20 * (170 + 22), 20 * (33 + 22)}
	if !slices.Equal(took, want) {
		t.Errorf("threads took %v, want %v", took, want)
	}
}

// TestPanicOfAThread is Run's, and the model lives on.
func TestPanicOfAThread(t *testing.T) {
	l := newLab(t, steady())
	func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("Run panicked with %v", p)
			}
		}()
		l.Run(func() {
			for {
				l.local.Load64(0)
			}
		}, func() {
			l.Compute(1000)
			l.local.Load64(0)
			panic("mine")
		})
	}()
	l.commit(0)
}

// TestRates: what the parameters call a rate is one.
func TestRates(t *testing.T) {
	rate := func(pairs, each int, size uint64, f fabric.Flags, change ...func(*timing.Params)) float64 {
		l := newLab(t, steady(change...))
		conns := []fabric.Conn{l.conn}
		for len(conns) < pairs {
			c, _ := l.Connect(l.p, l.m)
			conns = append(conns, c)
		}
		var threads []func()
		for i, c := range conns {
			threads = append(threads, func() {
				ops := make([]fabric.Op, 16)
				space := make([]fabric.Completion, 16)
				for n := 0; n < each; n += len(ops) {
					for k := range ops {
						ops[k] = l.write((uint64(i*each+n+k)*size)%(labSize-size), size, f)
					}
					ops[len(ops)-1].Flags |= fabric.Signaled
					for left := ops; len(left) > 0; {
						left = left[c.Post(left):]
						c.Poll(space)
					}
				}
				for c.Poll(space) == 0 {
				}
			})
		}
		start := l.Now()
		l.Run(threads...)
		l.Settle()
		return float64(pairs*each) / float64(l.Now()-start) * 1000 // M/s
	}
	near := func(what string, got, want float64) {
		t.Helper()
		t.Logf("%s: %.1f M/s", what, got)
		if got < 0.9*want || got > 1.02*want {
			t.Errorf("%s: %.2f M/s, want %.1f", what, got, want)
		}
	}
	near("one queue pair", rate(1, 2000, 8, 0), 10)
	near("four queue pairs", rate(4, 2000, 8, 0), 40)
	slow := func(p *timing.Params) { p.NIC.Rate, p.CPU.PostBatched = 35, 10 }
	near("a card of 35 M/s", rate(8, 2000, 8, 0, slow), 35)
	near("4 KB over the link", rate(2, 400, 4096, 0), 12500/(4096+60.0))
	pm := func(p *timing.Params) { p.Memory.Modules, p.Link.Bandwidth = 6, 50 }
	near("4 KB into six modules of PM", rate(8, 1500, 4096, fabric.NonTemporal, pm), 13900/4096.0)
	one := func(p *timing.Params) { p.Memory.Modules, p.Link.Bandwidth = 1, 50 }
	near("4 KB into one module", rate(2, 1500, 4096, fabric.NonTemporal, one), 2317/4096.0)
	near("lines that share no granule, one module", rate(4, 6000, 64, fabric.NonTemporal, one, func(p *timing.Params) { p.Memory.Granule = 64 }), 2317/64.0)
}

// TestWhatCosts: each part of the hardware costs what its parameter says, where it is in the way.
func TestWhatCosts(t *testing.T) {
	write := func(l *lab) { l.post(l.write(0, 64, fabric.Signaled)); l.wait(l.conn, 1) }
	commit := func(l *lab) { l.commit(0) }
	long := func(l *lab) { l.post(l.write(0, 300, fabric.Signaled)); l.wait(l.conn, 1) }
	fresh := func(l *lab) { l.post(l.read(8192+uint64(l.Now())%8192&^63, 64)); l.wait(l.conn, 1) }
	for _, c := range []struct {
		name   string
		do     func(*lab)
		change func(*timing.Params)
		more   time.Duration
	}{
		{"switch, there and back", write, func(p *timing.Params) { p.Link.Switch += 100 }, 200},
		{"a card's pipeline, four times", write, func(p *timing.Params) { p.NIC.Pipeline += 10 }, 40},
		{"doorbell and completion over PCIe", write, func(p *timing.Params) { p.PCIe.Write += 50 }, 100},
		{"post", write, func(p *timing.Params) { p.CPU.Post += 30 }, 30},
		{"further work requests of a call", func(l *lab) { l.post(l.write(0, 8, 0), l.write(8, 8, 0), l.write(16, 8, 0)) }, func(p *timing.Params) { p.CPU.PostBatched += 10 }, 20},
		{"poll", write, func(p *timing.Params) { p.CPU.Poll += 30 }, 30},
		{"PCIe reads matter to commits", commit, func(p *timing.Params) { p.PCIe.Read += 100 }, 100},
		{"so does the write-back", commit, func(p *timing.Params) { p.Memory.WriteBack += 100 }, 100},
		{"and its lines", commit, func(p *timing.Params) { p.Memory.WriteBackLine += 10 }, 10},
		{"which eADR has not", commit, func(p *timing.Params) { p.Memory.EADR = true }, -110},
		{"and then it costs nothing", commit, func(p *timing.Params) { p.Memory.EADR, p.Memory.WriteBack = true, 250 }, -110},
		{"inline", long, func(p *timing.Params) { p.NIC.Inline = 256 }, 0},
		{"above inline", long, func(p *timing.Params) { p.NIC.PayloadFetch += 100 }, 100},
		{"below inline", write, func(p *timing.Params) { p.NIC.PayloadFetch += 100 }, 0},
		{"PM is read", fresh, func(p *timing.Params) { p.Memory.ReadLatency += 40 }, 40},
		{"behind CXL", fresh, func(p *timing.Params) { p.Memory.CXL = true }, -35},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, changed := newLab(t, steady()), newLab(t, steady(c.change))
			if got := changed.takes(func() { c.do(changed) }) - base.takes(func() { c.do(base) }); got != c.more {
				t.Errorf("%v more, want %v", got, c.more)
			}
		})
	}
}

// TestBacklog: whoever asks for durability waits for what is on its way to a slow memory.
func TestBacklog(t *testing.T) {
	const writes, size = 40, 4096
	for name, c := range map[string]struct {
		flags fabric.Flags
		last  func(l *lab) fabric.Op
	}{
		"READ behind non-temporal writes": {fabric.NonTemporal, func(l *lab) fabric.Op { return l.read(0, 8) }},
		"durable FENCE, written through": {fabric.WriteThrough, func(l *lab) fabric.Op {
			return fabric.Op{Kind: fabric.Fence, Flags: fabric.Signaled, A: fabric.Durable}
		}},
		"durable FLUSH, written through":     {fabric.WriteThrough, func(l *lab) fabric.Op { return l.flush(fabric.Durable) }},
		"durable FLUSH of what is in caches": {0, func(l *lab) fabric.Op { return l.flush(fabric.Durable) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, steady(func(p *timing.Params) { p.Memory.Modules, p.Memory.Buffer, p.Memory.WriteQueue = 1, 4, 16 }))
			start := l.Now()
			for i := range uint64(writes) {
				l.post(l.write(i*size, size, c.flags))
			}
			l.post(c.last(l))
			l.wait(l.conn, 1)
			// All but what the buffer and the queue hold must have reached the media: 2.317 bytes a nanosecond.
			want := time.Duration(writes*size-4096-16*64) * 1000 / 2317
			if took := l.Now() - start; took < want {
				t.Errorf("%v, want the %v at least that the media takes", took, want)
			}
		})
	}
}

// TestReadPushesWrites: a READ behind a backlog of writes is in the memory no earlier than they are, so that half of its way over
// PCIe comes after them.
func TestReadPushesWrites(t *testing.T) {
	took := func(pcie float64) time.Duration {
		l := newLab(t, steady(func(p *timing.Params) { p.Memory.Modules, p.PCIe.Read = 1, pcie }))
		start := l.Now()
		for i := range uint64(20) {
			l.post(l.write(i*4096, 4096, fabric.NonTemporal))
		}
		l.post(l.read(0, 8))
		l.wait(l.conn, 1)
		return l.Now() - start
	}
	if more := took(1000) - took(600); more != 200 {
		t.Errorf("400 ns more for a read over PCIe are %v more for one behind a backlog, want 200 ns", more)
	}
}

// TestMerge: lines of granules that the module's buffer holds do not wait for the media.
func TestMerge(t *testing.T) {
	each := func(granules uint64) time.Duration {
		l := newLab(t, steady(func(p *timing.Params) { p.Memory.Modules, p.Memory.Buffer = 1, 4 }))
		start := l.Now()
		const n = 3000
		for i := range uint64(n) {
			l.local.Persist(i%granules*256, 64)
			l.local.Fence()
		}
		return (l.Now() - start) / n
	}
	if few, many := each(8), each(1000); few != 62 || many < 105 {
		t.Errorf("a line takes %v in one of 8 granules, and %v in one of 1000, where the buffer holds 16: want 62 ns, and the media's 110 ns", few, many)
	}
}

// TestEADRWritesNothingBack: a durable fence behind a write costs the same, whatever a write-back would.
func TestEADRWritesNothingBack(t *testing.T) {
	took := func(writeBack float64) time.Duration {
		l := newLab(t, steady(func(p *timing.Params) { p.Memory.EADR, p.Memory.WriteBack, p.PCIe.Read = true, writeBack, 200 }))
		return l.takes(func() {
			l.post(l.write(0, 4096, fabric.WriteThrough), fabric.Op{Kind: fabric.Fence, Flags: fabric.Signaled, A: fabric.Durable})
			l.wait(l.conn, 1)
		})
	}
	if slow, fast := took(250), took(60); slow != fast {
		t.Errorf("%v, and %v where a write-back takes 250 ns", fast, slow)
	}
}

// TestNothingOvertakes: on one connection work requests become due in the order that the fabric allows, however much their ways
// vary.
func TestNothingOvertakes(t *testing.T) {
	l := newLab(t, steady(func(p *timing.Params) { p.Tail.P99 = 1.6 }))
	kinds := []fabric.Op{l.write(0, 64, 0), l.write(64, 4096, fabric.WriteThrough), l.write(128, 8, fabric.NonTemporal), l.read(0, 64), l.flush(fabric.Durable),
		{Kind: fabric.Fence, A: fabric.Durable}, {Kind: fabric.Fence}, l.write(0, 64, fabric.Fenced), l.write(0, 64, fabric.Notify),
		{Kind: fabric.Write8, Remote: fabric.Addr{Key: l.rkey}}, {Kind: fabric.FetchAdd, Remote: fabric.Addr{Key: l.rkey}}}
	for i := range 3000 {
		op := kinds[(i*7+i/11)%len(kinds)]
		op.Flags &^= fabric.Signaled
		l.post(op)
		if i%5 == 0 {
			l.Compute(300)
		}
		if n := timing.Stalled(l.conn); n > 0 {
			t.Fatalf("after %d posts %d work requests are due ahead of others", i, n)
		}
	}
	l.Settle()
}

// TestFenced: a Fenced request starts when the answer of the Read before it is here.
func TestFenced(t *testing.T) {
	took := func(f fabric.Flags) time.Duration {
		l := newLab(t, steady())
		return l.takes(func() {
			l.post(l.read(4096, 8), l.write(0, 64, fabric.Signaled|f))
			l.wait(l.conn, 2)
		})
	}
	if free, fenced := took(0), took(fabric.Fenced); fenced < free+time.Microsecond {
		t.Errorf("READ and WRITE take %v, with the WRITE Fenced %v: want a round trip more", free, fenced)
	}
}

// TestStall: a thread that handles messages is kept from it now and then.
func TestStall(t *testing.T) {
	l := newLab(t, steady(func(p *timing.Params) { p.Tail.Stall = 0.01 }))
	long := 0
	for range 2000 {
		l.back.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: l.rkey}, Len: 64}})
		l.post(fabric.Op{Kind: fabric.Send, Local: fabric.Span{Key: l.lkey}, Len: 8})
		start := l.Now()
		l.wait(l.back, 1)
		if took := l.Now() - start; took > 100*time.Microsecond+5*time.Microsecond {
			t.Fatalf("a message took %v", took)
		} else if took > 10*time.Microsecond {
			long++
		}
	}
	if long < 5 || long > 50 {
		t.Errorf("%d of 2000 messages met a stall of 10 us or more, want about 20", long)
	}
}

// TestCold: a card that cannot hold all connections fetches their state, and more than once.
func TestCold(t *testing.T) {
	mean := func(conns int) time.Duration {
		l := newLab(t, steady(func(p *timing.Params) { p.NIC.CacheEntries = 16 }))
		all := []fabric.Conn{l.conn}
		for len(all) < conns {
			c, _ := l.Connect(l.p, l.m)
			all = append(all, c)
		}
		round := func() {
			for _, c := range all {
				c.Post([]fabric.Op{l.write(0, 8, fabric.Signaled)})
				for c.Poll(make([]fabric.Completion, 1)) == 0 {
				}
			}
		}
		return l.takes(round) / time.Duration(conns)
	}
	few, many := mean(8), mean(40)
	if more := many - few; more < 700 || more > 1000 {
		t.Errorf("a write takes %v over one of 8 connections, %v over one of 40 where a card holds 16: want two misses of 400 ns more", few, many)
	}
}

// TestShareOfTheCache: what cards write beyond their share of the cache waits for the memory.
func TestShareOfTheCache(t *testing.T) {
	fill := func(size float64) time.Duration {
		l := newLab(t, steady(func(p *timing.Params) {
			p.Cache.Size, p.Cache.DDIOWays, p.Cache.Ways, p.Link.Bandwidth, p.Memory.Modules = size, 1, 20, 50, 1
		}))
		start := l.Now()
		for off := uint64(0); off+4096 <= labSize-4096; off += 4096 {
			l.post(l.write(off, 4096, 0))
		}
		l.post(l.read(0, 8))
		l.wait(l.conn, 1)
		return l.Now() - start
	}
	if fits, not := fill(256), fill(8); not < 2*fits {
		t.Errorf("1 MB into a share of 12.8 MB takes %v, into one of 0.4 MB %v: want twice as long at least", fits, not)
	}
}

// TestTail: the 99th percentile is what the parameter says.
func TestTail(t *testing.T) {
	for _, p99 := range []float64{1.1, 1.25, 1.6} {
		l := newLab(t, steady(func(p *timing.Params) { p.Tail.P99 = p99 }))
		var took []time.Duration
		for range 4000 {
			start := l.Now()
			l.post(l.write(0, 64, fabric.Signaled))
			l.wait(l.conn, 1)
			took = append(took, l.Now()-start)
		}
		slices.Sort(took)
		median, tail := took[len(took)/2], took[len(took)*99/100]
		if got := float64(tail) / float64(median); got < 1+(p99-1)*0.85 || got > 1+(p99-1)*1.15 {
			t.Errorf("p99 is %v, the median %v: %.2f times it, want %.2f", tail, median, got, p99)
		}
	}
}

// TestDurable: a commit puts the bytes into the crash model's durable image, and a mere completion does not.
func TestDurable(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags fabric.Flags
		end   fabric.Op
		want  bool
	}{
		{"WRITE", 0, fabric.Op{Kind: fabric.Fence, Flags: fabric.Signaled}, false},
		{"WRITE and durable FLUSH", 0, fabric.Op{Kind: fabric.Flush, Flags: fabric.Signaled, A: fabric.Durable, B: fabric.Region}, true},
		{"written through, durable fence", fabric.WriteThrough, fabric.Op{Kind: fabric.Fence, Flags: fabric.Signaled, A: fabric.Durable}, true},
		{"non-temporal, READ", fabric.NonTemporal, fabric.Op{Kind: fabric.Read, Flags: fabric.Signaled, Len: 8}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, steady())
			image := pmem.Simulate(4096, pmem.ADR, 1)
			key, err := l.m.Endpoint().Register(l.m.Memory(image), 0, 4096, fabric.RemoteWrite|fabric.RemoteRead|fabric.RemoteFlush)
			if err != nil {
				t.Fatal(err)
			}
			copy(l.local.Bytes(), "whale")
			w := l.write(0, 64, c.flags)
			w.Remote.Key = key
			if c.end.Remote.Key = key; c.end.Kind == fabric.Read {
				c.end.Local = fabric.Span{Key: l.lkey, Off: 4096}
			}
			l.post(w, c.end)
			l.wait(l.conn, 1)
			if got := strings.HasPrefix(string(image.CrashDurable().Bytes()), "whale"); got != c.want {
				t.Errorf("durable when the completion is here: %v, want %v", got, c.want)
			}
		})
	}
}

// TestNoAllocations: an operation costs no garbage.
func TestNoAllocations(t *testing.T) {
	l := newLab(t, timing.Default())
	ops := []fabric.Op{l.write(0, 64, fabric.WriteThrough), l.flush(fabric.Durable)}
	space := make([]fabric.Completion, 1)
	once := func() {
		l.local.Persist(0, 64)
		l.local.Fence()
		l.conn.Post(ops)
		for l.conn.Poll(space) == 0 {
		}
	}
	for range 1000 {
		once()
	}
	if got := testing.AllocsPerRun(1000, once); got != 0 {
		t.Errorf("%v allocations an epoch, want none", got)
	}
}

// BenchmarkEpoch is what an epoch with a remote commit costs the one who simulates it.
func BenchmarkEpoch(b *testing.B) {
	l := newLab(b, timing.Default())
	ops := []fabric.Op{l.write(0, 64, 0), l.flush(fabric.Durable)}
	space := make([]fabric.Completion, 1)
	b.ReportAllocs()
	for b.Loop() {
		l.local.Persist(0, 64)
		l.local.Fence()
		l.conn.Post(ops)
		for l.conn.Poll(space) == 0 {
		}
	}
}
