package shard

import (
	"bytes"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// A channel that always has something to send does not keep what it has sent.
func TestBusyChannelStaysSmall(t *testing.T) {
	n := simfab.New(simfab.Options{Auto: true})
	ab, ba := n.Connect("A", "B")
	var a, b channel
	for _, end := range []struct {
		c    *channel
		name string
		conn fabric.Conn
	}{{&a, "A", ab}, {&b, "B", ba}} {
		mem := pmem.Heap(channelBytes)
		key, err := n.Endpoint(end.name).Register(mem, 0, channelBytes, fabric.LocalOnly)
		if err != nil {
			t.Fatal(err)
		}
		end.c.reset(end.conn, key, 0, mem)
	}
	body := bytes.Repeat([]byte("x"), frameSize/2)
	sent, came := 0, 0
	poll := func(c *channel, handle func(byte, []byte) error) {
		var done [32]fabric.Completion
		for _, d := range done[:c.conn.Poll(done[:])] {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
			if err := c.completion(d, handle); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 1000 {
		for a.queued() < 20*frameSize {
			at := a.begin(7)
			a.out = append(a.out, body...)
			a.end(at)
			sent++
		}
		a.pump()
		poll(&b, func(kind byte, got []byte) error {
			if kind != 7 || !bytes.Equal(got, body) {
				t.Fatalf("message %d came as %d bytes of kind %d", came, len(got), kind)
			}
			came++
			return nil
		})
		b.pump()
		poll(&a, nil)
		if len(a.out) > 64*frameSize {
			t.Fatalf("after %d messages, of which %d wait, %d bytes are kept", sent, sent-came, len(a.out))
		}
	}
	if came < 1000 {
		t.Fatalf("only %d messages came", came)
	}
}
