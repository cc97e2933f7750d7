package shard

import (
	"strings"
	"testing"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/replication/whale"
)

// A backup steps aside while nobody waits for it, takes its share when P will have to wait for it soon, and all that it
// gets when it has a request.
func TestUrgency(t *testing.T) {
	s := newSimRig(t, 3, whale.FaultNone, FaultNone, simfab.Options{})
	s.form()
	p, b1, b2 := s.members[0], s.members[1], s.members[2]
	client := &command.Client{}
	want := func(when string, m *member, u Urgency) {
		t.Helper()
		if got := m.e.Urgency(); got != u {
			t.Errorf("%s, %s: urgency %d, want %d", when, m.name, got, u)
		}
	}
	s.net.Hold("B1", "B2") // B2 knows of the records and gets no bytes
	quarter := int(s.geo.RingSlots / 4)
	for n := 1; n <= quarter; n++ {
		want("not far behind", b2, Later)
		q := s.issue(p, newRequest(client, "set", "k", strings.Repeat("x", 700)))
		for s.net.DeliverAll() > 0 || s.step() {
		}
		if !q.done {
			t.Fatalf("write %d: no reply", n)
		}
	}
	want("always", p, Urgent)
	want("up to date", b1, Later)
	want("a quarter of the ring behind", b2, Soon)
	read := s.issue(b2, newRequest(client, "get", "k"))
	if read.done {
		t.Fatalf("a read without its bytes: %q", read.W.Buf)
	}
	want("with a read", b2, Urgent)
	s.net.Release("B1", "B2")
	for s.net.DeliverAll() > 0 || s.step() {
	}
	if !read.done {
		t.Fatal("the read was not answered")
	}
	want("up to date again", b2, Later)
}
