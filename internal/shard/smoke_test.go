package shard

import (
	"testing"

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
