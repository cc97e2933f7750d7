package shard

import (
	"errors"
	"testing"

	"whale/fabric/simfab"
	"whale/internal/command"
)

func TestSetAtPIsReadEverywhere(t *testing.T) {
	r := newShmRig(t, 3, smallGeometry, t.TempDir())
	c := &command.Client{}
	q := r.issue(r.members[0], newRequest(c, "set", "k", "v"))
	r.step()
	if !q.done || string(q.W.Buf) != "+OK\r\n" {
		t.Fatalf("done %v %q", q.done, q.W.Buf)
	}
	for _, m := range r.members {
		q := r.issue(m, newRequest(c, "get", "k"))
		r.step()
		if !q.done || string(q.W.Buf) != "$1\r\nv\r\n" {
			t.Fatalf("%s: done %v %q", m.name, q.done, q.W.Buf)
		}
	}
	q = r.issue(r.members[2], newRequest(c, "incr", "n"))
	r.step()
	if !q.done || string(q.W.Buf) != ":1\r\n" {
		t.Fatalf("done %v %q", q.done, q.W.Buf)
	}
}

func TestAWaitForeverEndsWithItsClient(t *testing.T) {
	s := newSimRig(t, 3, 0, 0, simfab.Options{})
	s.form()
	for _, m := range []*member{s.members[0], s.members[2]} {
		q := s.issue(m, newRequest(&command.Client{}, "wait", "9", "0"))
		s.net.Auto(true)
		s.step()
		if q.done || len(s.members[0].e.waits) != 1 {
			t.Fatalf("%s: done %v, %d waits at P", m.name, q.done, len(s.members[0].e.waits))
		}
		m.e.Cancel(&q.Request)
		s.step()
		if !q.done || len(s.members[0].e.waits) != 0 {
			t.Fatalf("%s: done %v, %d waits at P after Cancel", m.name, q.done, len(s.members[0].e.waits))
		}
	}
}

// A member that does not serve any more goes on polling: a completion that nobody takes would keep its doorbell ringing.
func TestAStoppedEngineGoesOnPolling(t *testing.T) {
	s := newSimRig(t, 3, 0, 0, simfab.Options{})
	s.form()
	p := s.members[0]
	s.issue(p, newRequest(&command.Client{}, "set", "k", "v"))
	s.net.Auto(false)
	p.e.Step(s.now)
	p.e.stop(errors.New("damaged"))
	s.net.Auto(true)
	waiting := 0
	for i := range p.e.links {
		if l := &p.e.links[i]; l.conn != nil {
			waiting += s.net.Unpolled(l.conn)
		}
	}
	if waiting == 0 {
		t.Fatal("nothing waits: the test shows nothing")
	}
	p.e.Step(s.now)
	for i := range p.e.links {
		if l := &p.e.links[i]; l.conn != nil && s.net.Unpolled(l.conn) > 0 {
			t.Errorf("%d completions of %s wait", s.net.Unpolled(l.conn), s.members[i].name)
		}
	}
}
