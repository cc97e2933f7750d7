package node

import (
	"strconv"
	"strings"

	"whale/internal/command"
	"whale/internal/resp"
)

// params are the settings as CONFIG shows them: under Redis's names where Redis has them and they mean the same, and under
// Whale's own with a prefix.
func params(cfg *Config) *command.Params {
	host, port := splitAddress(cfg.Listen)
	bulk := cfg.Limits.MaxBulk
	orElse(&bulk, resp.DefaultMaxBulk)
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	p := command.NewParams(map[string]string{
		"appendonly":            "no",
		"bind":                  host,
		"cluster-enabled":       "no",
		"config-file":           cfg.File,
		"databases":             "1",
		"dir":                   cfg.Dir,
		"enable-debug-command":  yes(cfg.EnableDebug),
		"io-threads":            strconv.Itoa(cfg.Threads),
		"maxclients":            strconv.Itoa(cfg.MaxClients),
		"maxmemory":             strconv.FormatUint(cfg.Arena, 10),
		"maxmemory-policy":      "noeviction",
		"port":                  port,
		"proto-max-bulk-len":    strconv.Itoa(bulk),
		"save":                  "",
		"tcp-backlog":           strconv.Itoa(backlog),
		"tcp-keepalive":         strconv.Itoa(keepAlive),
		"timeout":               "0",
		"whale-command-timeout": cfg.CommandTimeout.String(),
		"whale-fabric":          cfg.Fabric,
		"whale-id":              strconv.Itoa(cfg.ID),
		"whale-min-copies":      strconv.Itoa(cfg.MinCopies),
		"whale-mirrors":         strconv.Itoa(cfg.Mirrors),
		"whale-peers":           strings.Join(cfg.Peers, ","),
		"whale-policy":          cfg.Policy.String(),
	})
	p.SetPassword(cfg.Password)
	p.SetSlowLog(cfg.SlowerThan, cfg.SlowMax)
	p.SetLatencyThreshold(cfg.LatencyThreshold)
	return p
}
