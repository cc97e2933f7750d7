package simfab_test

import (
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// FuzzNetwork lets a script of bytes post anything at all and do anything at all to the network. Nothing panics, no byte
// outside the registrations changes, the queues stay bounded, and in the end every operation that was to report has
// reported once, in post order.
func FuzzNetwork(f *testing.F) {
	f.Add(uint64(1), []byte("a plain start"))
	for seed := range uint64(40) {
		script := make([]byte, 400)
		rng := rand.New(rand.NewPCG(seed, 1))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(seed, script)
	}
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) { fuzzOnce(t, seed, script) })
}

type fuzzEnd struct {
	conn      fabric.Conn
	expect    []posted // not yet reported or passed over
	receives  []posted
	lastError bool
}

type posted struct {
	fabric.Op
	late bool // after an error was seen
}

func fuzzOnce(t *testing.T, seed uint64, script []byte) {
	rng := rand.New(rand.NewPCG(seed, 2))
	n := simfab.New(simfab.Options{
		Relaxed: seed&1 != 0, Late: seed&2 != 0, Auto: seed&4 != 0, NoAtomics: seed&8 != 0, Midway: seed&16 != 0, QueueDepth: 8, RecvDepth: 3,
		Log: func(string) {},
	})
	names := []string{"A", "B", "C"}
	mems := map[string]*pmem.HeapMemory{}
	keys := map[string][]fabric.Key{}
	const guard, size = 64, 128
	open := func(name string) {
		m := mems[name]
		if m == nil {
			m = pmem.Heap(2*guard + size)
			mems[name] = m
		}
		for _, r := range []fabric.Rights{every, fabric.Rights(rng.IntN(16))} {
			key, err := n.Endpoint(name).Register(m, guard, size, r)
			if err != nil {
				t.Fatal(err)
			}
			keys[name] = append(keys[name], key)
		}
	}
	var ends []*fuzzEnd
	connect := func(a, b string) {
		ca, cb := n.Connect(a, b)
		ends = append(ends, &fuzzEnd{conn: ca}, &fuzzEnd{conn: cb})
	}
	for _, name := range names {
		open(name)
	}
	connect("A", "B")
	connect("A", "C")
	connect("B", "B")
	name := func() string { return names[rng.IntN(len(names))] }
	key := func() fabric.Key {
		k := keys[name()]
		return k[rng.IntN(len(k))] + fabric.Key(rng.IntN(20)/19)
	}
	number := func(limit int) uint64 {
		if rng.IntN(30) == 0 {
			return rng.Uint64() >> rng.IntN(64)
		}
		return uint64(rng.IntN(limit))
	}
	var stale []simfab.Event
	id := uint64(0)
	poll := func(e *fuzzEnd) {
		var space [4]fabric.Completion
		for _, c := range space[:e.conn.Poll(space[:1+rng.IntN(3)])] {
			list := &e.expect
			if c.Kind == fabric.Recv {
				list = &e.receives
			}
			for len(*list) > 0 && (*list)[0].ID != c.ID {
				if o := (*list)[0]; o.Kind == fabric.Recv || o.Flags&fabric.Signaled != 0 || o.late {
					t.Fatalf("completion %+v, want that of %+v", c, o)
				}
				*list = (*list)[1:]
			}
			if len(*list) == 0 {
				t.Fatalf("completion %+v of nothing posted", c)
			}
			o := (*list)[0]
			if *list = (*list)[1:]; c.Kind != o.Kind || c.Err == nil && o.Kind != fabric.Recv && o.Flags&fabric.Signaled == 0 || c.Err == nil && e.lastError {
				t.Fatalf("completion %+v of %+v, after an error: %v", c, o, e.lastError)
			}
			e.lastError = e.lastError || c.Err != nil
		}
	}
	for _, b := range script {
		e := ends[rng.IntN(len(ends))]
		switch b % 32 {
		default:
			id++
			o := fabric.Op{
				Kind: fabric.Kind(number(10)), ID: id, Local: fabric.Span{Key: key(), Off: number(size)}, Remote: fabric.Addr{Key: key(), Off: number(size)},
				Len: number(60), A: number(3), B: number(2), Flags: fabric.Flags(number(2)),
			}
			if rng.IntN(3) == 0 {
				o.Flags |= fabric.Flags(1 << rng.IntN(5))
			}
			if rng.IntN(2) == 0 {
				o.Remote.Off &^= 7
			}
			if e.conn.Post([]fabric.Op{o}) == 1 {
				if o.Kind == fabric.Recv {
					e.receives = append(e.receives, posted{o, e.lastError})
				} else {
					e.expect = append(e.expect, posted{o, e.lastError})
				}
			}
			if len(stale) < 50 {
				stale = append(stale, n.Pending()...)
			}
		case 20, 21:
			poll(e)
		case 22, 23, 24:
			n.Step(rng)
		case 25:
			if len(stale) > 0 {
				ev := stale[rng.IntN(len(stale))]
				switch rng.IntN(5) {
				case 0:
					n.Deliver(ev)
				case 4:
					n.Begin(ev)
				case 1:
					n.DeliverThrough(ev)
				case 2:
					n.Complete(ev)
				default:
					n.DeliverWords(ev, rng.IntN(5)-1, rng.IntN(5)-1)
				}
				_ = ev.String()
			}
		case 26:
			n.Hold(name(), name())
		case 27, 28:
			n.Release(name(), name())
		case 29:
			n.Endpoint(name()).Revoke(key())
		case 30:
			switch rng.IntN(3) {
			case 0:
				e.conn.Close()
			case 1:
				n.Break(name(), name())
			default:
				who := name()
				n.Crash(who)
				open(who)
			}
			connect(name(), name())
		case 31:
			n.Auto(rng.IntN(2) == 0)
		}
	}
	for _, a := range names {
		for _, b := range names {
			n.Release(a, b)
		}
	}
	for round := 0; n.Step(rng) || round < 3; round++ {
	}
	for _, e := range ends {
		e.conn.Close()
		for range 40 {
			poll(e)
		}
		for _, o := range append(e.expect, e.receives...) {
			if o.Kind == fabric.Recv || o.Flags&fabric.Signaled != 0 || o.late {
				t.Fatalf("no completion of %+v", o)
			}
		}
	}
	for _, m := range mems {
		for i, v := range m.Bytes() {
			if (i < guard || i >= guard+size) && v != 0 {
				t.Fatalf("byte %d, outside the registration, is %d", i-guard, v)
			}
		}
	}
	if left := n.Pending(); len(left) != 0 {
		t.Fatalf("all connections are closed, and %v waits", left[0])
	}
}
