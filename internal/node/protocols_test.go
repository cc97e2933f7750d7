//go:build linux

package node

import (
	"fmt"
	"strings"
	"testing"

	"whale/internal/replication"
)

// TestEveryProtocolAndPolicy: whatever is durable where, and whoever answers reads, what one node has acknowledged every node
// answers, small values and large ones.
func TestEveryProtocolAndPolicy(t *testing.T) {
	for _, v := range []struct {
		protocol string
		policy   replication.Policy
		mirrors  int
	}{
		{"whale", replication.Mirror, 2},
		{"whale", replication.Metadata, 1},
		{"whale", replication.All, 1},
		{"chain", replication.Mirror, 1},
	} {
		t.Run(fmt.Sprintf("%s %v %d", v.protocol, v.policy, v.mirrors), func(t *testing.T) {
			c := newCluster(t, 3, func(cfg *Config) {
				cfg.Protocol, cfg.Policy, cfg.Mirrors = v.protocol, v.policy, v.mirrors
			}).startAll()
			for round := range 50 {
				value := strings.Repeat(fmt.Sprint(round%10), 1+round%2*3000)
				if got := c.dial(round%3).do("SET", "k", value); got != "+OK\r\n" {
					t.Fatalf("SET at %d: %q", round%3, got)
				}
				for i := range 3 {
					if got := c.dial(i).do("GET", "k"); got != bulk(value) {
						t.Fatalf("round %d, written at %d: %d answers %.40q", round, round%3, i, got)
					}
				}
			}
			if got := c.dial(1).do("MSET", "a", "1", "b", "2") + c.dial(2).do("MGET", "a", "b"); got != "+OK\r\n*2\r\n"+bulk("1")+bulk("2") {
				t.Fatalf("%q", got)
			}
			c.stop(1)
			c.start(1)
			c.awaitServing(1)
			if got := c.dial(1).do("GET", "a"); got != bulk("1") {
				t.Fatalf("after a restart: %q", got)
			}
		})
	}
}

func TestMembersOfDifferentProtocolsDoNotServe(t *testing.T) {
	c := newCluster(t, 2, func(cfg *Config) {
		if cfg.ID == 1 {
			cfg.Protocol = "chain"
		}
	})
	c.start(0)
	c.start(1)
	s := c.awaitState(1, "a failure", func(s State) bool { return s.Failed != "" })
	if !strings.Contains(s.Failed, "give all members the same --protocol") {
		t.Fatalf("%q", s.Failed)
	}
}
