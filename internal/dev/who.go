package dev

import (
	"net"
	"strings"
	"time"

	"whale/internal/resp"
)

// whoListens asks what listens on addr for its process, if it speaks Redis. Empty: it does not say.
func whoListens(addr string) string {
	c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := c.Write(resp.AppendCommand(nil, "INFO", "server")); err != nil {
		return ""
	}
	reply, err := resp.NewReplyReader(c).Next()
	if err != nil || reply.Err() != nil {
		return ""
	}
	field := func(name string) string {
		for line := range strings.Lines(string(reply.Str)) {
			if v, ok := strings.CutPrefix(line, name+":"); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	switch pid, folder := field("process_id"), field("whale_folder"); {
	case folder != "":
		return " by a Whale node (process " + pid + ", folder " + folder + ")"
	case pid != "":
		return " by a Redis server (process " + pid + ")"
	}
	return ""
}
