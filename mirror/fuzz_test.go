package mirror

import (
	"bytes"
	"testing"

	"whale/fabric/simfab"
	"whale/pmem"
)

// FuzzHello: whatever a peer says, it is refused or makes sense; and what was understood is said the same way.
func FuzzHello(f *testing.F) {
	h := hello{kind: kindFirst, session: ID{1}, label: Label{ID: ID{2}, Size: 8192, State: State{3, 4, Opened}}}
	a := answer{key: 5, label: h.label}
	f.Add(h.encode())
	f.Add(a.encode())
	f.Add(refusal(errTest("no")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h hello
		if h.decode(b) == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("%x is understood, and said as %x", b, h.encode())
		}
		var a answer
		if a.decode(b) == nil && (a.key == 0 || a.label.State.Condition > Filling) {
			t.Errorf("%x makes no sense: %+v", b, a)
		}
	})
}

type errTest string

func (e errTest) Error() string { return string(e) }

// FuzzLabel: whatever a memory begins with, it is refused, or a region that can be opened and is the same one afterwards.
func FuzzLabel(f *testing.F) {
	m := pmem.Simulate(8192, pmem.ADR, 1)
	l, err := format(m)
	if err != nil {
		f.Fatal(err)
	}
	State{7, 8, Clean}.store(m)
	f.Add(bytes.Clone(m.Bytes()[:HeadSize]))
	f.Add(l.head())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, head []byte) {
		m := pmem.Simulate(8192, pmem.ADR, 1)
		copy(m.Bytes()[:HeadSize], head)
		before, err := Inspect(m)
		x, xerr := NewExport(simfab.New(simfab.Options{}).Endpoint("M"), m)
		if (err == nil) != (xerr == nil) {
			t.Fatalf("Inspect: %v, NewExport: %v", err, xerr)
		}
		if err != nil {
			return
		}
		h := hello{kind: kindFirst, label: Label{ID: before.ID, Size: 8192, State: State{Generation: maxGeneration}}}
		if b, err := x.Answer(h.encode()); err != nil || len(b) < 16 {
			t.Fatalf("the answer is %x, %v", b, err)
		}
		r, err := Open(t.Context(), m, nil, nil, Options{})
		if err != nil {
			return // unfinished, or out of generations
		}
		if now := r.Label(); before.State.Condition != Blank && now.ID != before.ID || now.State.Generation != before.State.Generation+1 {
			t.Fatalf("%+v became %+v", before, now)
		}
	})
}
