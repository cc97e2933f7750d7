package command

import (
	"slices"
	"strings"

	"whale/internal/resp"
)

var serverCommands = []*Command{
	{Name: "info", Arity: -1, Place: Here, Run: info,
		Flags: words("loading stale"), Categories: words("@slow @dangerous"),
		Tips:  words("nondeterministic_output request_policy:all_shards response_policy:special"),
		Group: "server", Since: "1.0.0", Summary: "Returns facts and figures about this node, by section", Complexity: "O(1)"},
	{Name: "role", Arity: 1, Place: Here, Run: func(c *Ctx) { c.Server.Role(c.W) },
		Flags: words("noscript loading stale fast"), Categories: words("@admin @fast @dangerous"),
		Group: "server", Since: "2.8.12", Summary: "Returns this node's role in replication", Complexity: "O(1)"},
	{Name: "wait", Arity: 3, Place: Here, Run: wait,
		Flags: words("noscript"), Categories: words("@slow @connection"),
		Tips:  words("request_policy:all_shards response_policy:agg_min"),
		Group: "generic", Since: "3.0.0", Summary: "Waits until the connection's last write is durable at so many other members, and returns how many hold it", Complexity: "O(1)"},
}

// Sections of INFO, in the order in which they are shown. The last is Whale's own: the positions of its protocol.
var Sections = []string{"server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "errorstats", "cluster", "keyspace", "whale"}

// info answers with the sections asked for. Unknown names are passed over, as in Redis.
func info(c *Ctx) {
	var text []byte
	for _, section := range Sections {
		if !infoWants(c, section) {
			continue
		}
		if len(text) > 0 {
			text = append(text, "\r\n"...)
		}
		text = append(text, "# "+strings.ToUpper(section[:1])+section[1:]+"\r\n"...)
		text = c.Server.Info(text, section)
	}
	c.W.Verbatim("txt", string(text))
}

func infoWants(c *Ctx, section string) bool {
	return len(c.Args) == 1 || slices.ContainsFunc(c.Args[1:], func(arg []byte) bool {
		return equalFold(arg, section) || equalFold(arg, "default") || equalFold(arg, "all") || equalFold(arg, "everything")
	})
}

// wait only checks: see [Wait].
func wait(c *Ctx) {
	replicas, ok := c.integer(1)
	if !ok {
		return
	}
	timeout, ok := resp.ParseInt(c.Args[2])
	switch {
	case !ok:
		c.W.Error("ERR timeout is not an integer or out of range")
	case timeout < 0:
		c.W.Error("ERR timeout is negative")
	default:
		c.Wait = Wait{Asked: true, Replicas: replicas, Timeout: timeout}
	}
}
