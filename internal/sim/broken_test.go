package sim

import (
	"strconv"
	"testing"

	"whale/internal/replication/chain"
	"whale/internal/replication/whale"
	"whale/internal/shard"
	"whale/internal/store"
)

// Each rule that is taken away must be missed, within so many seeds.
func TestBrokenVariantsAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("many seeds")
	}
	for _, v := range []struct {
		name    string
		broken  Broken
		cluster func(*Cluster) // besides what the seed draws
		seeds   uint64
	}{
		{"trap 1: completed writes count", Broken{Core: whale.FaultEarlyCommit}, nil, 60},
		{"trap 2: data but no metadata", Broken{Core: whale.FaultDataOnly}, nil, 60},
		{"trap 2: the S that is known", Broken{Engine: shard.FaultKnownS}, nil, 60},
		{"trap 3: P reads unstable versions", Broken{Engine: shard.FaultReadUnstable}, nil, 60},
		{"trap 4: old rights stand", Broken{Engine: shard.FaultNoRevoke}, nil, 60},
		{"an operation in flight is ignored", Broken{Engine: shard.FaultIgnoreInFlight}, nil, 60},
		{"answered requests are kept", Broken{Engine: shard.FaultKeepAnswered}, nil, 60},
		{"any number of requests wait", Broken{Engine: shard.FaultNoQueueLimit}, nil, 60},
		{"tombstones are kept", Broken{Store: store.FaultKeepTombstones}, nil, 60},
		{"keys expire early", Broken{Store: store.FaultEarlyExpiry}, nil, 60},
		{"keys never expire", Broken{Store: store.FaultNoExpiry}, nil, 60},
		{"keys expire when somebody asks", Broken{Engine: shard.FaultLazyExpiry}, nil, 60},
		{"trap 5: a fenced member serves", Broken{Engine: shard.FaultServeFenced}, nil, 60},
		{"trap 6: everywhere too early", Broken{Core: whale.FaultEarlyEverywhere}, nil, 60},
		{"trap 7: active too early", Broken{Engine: shard.FaultEarlyActive}, nil, 60},
		{"trap 8: replies reveal", Broken{Engine: shard.FaultNoGate}, nil, 60},
		{"trap 9: a shorter log leads", Broken{Engine: shard.FaultShortLog}, nil, 60},
		{"visible slots under metadata", Broken{Core: whale.FaultVisibleSlots}, func(c *Cluster) { c.Policy = "metadata" }, 60},
		{"off by one", Broken{Core: whale.FaultOffByOne}, nil, 60},
		{"forwarded without a flush", Broken{Core: whale.FaultForwardWritten}, nil, 60},
		{"data visible, not durable", Broken{Core: whale.FaultVisibleData}, nil, 60},
		{"slots overwritten", Broken{Core: whale.FaultNoRoom}, nil, 60},
		{"nobody is rung", Broken{Core: whale.FaultSilent}, nil, 60},
		{"nothing is forwarded", Broken{Core: whale.FaultNoChain}, nil, 60},
		{"own clocks", Broken{Engine: shard.FaultOwnClock}, nil, 60},
		{"P does not persist", Broken{Engine: shard.FaultNoCommit}, nil, 60},
		{"a backup does not persist", Broken{Engine: shard.FaultNoCommitBackup}, nil, 60},
		{"a read overtakes", Broken{Engine: shard.FaultOvertake}, nil, 60},
		{"sent again", Broken{Engine: shard.FaultSendAgain}, nil, 60},
		{"unknown is called not executed", Broken{Engine: shard.FaultNotExecuted}, nil, 60},
		{"EXEC forgets WATCH", Broken{Engine: shard.FaultStampNow}, nil, 60},
		{"P reads without leases", Broken{Engine: shard.FaultNoLeaseAtP}, leased, 60},
		{"trap 5: leases are not waited out", Broken{Engine: shard.FaultNoLeaseWait}, leased, 60},
		{"a restarted P forgets its promises", Broken{Engine: shard.FaultForgetPromises}, leased, 60},
		{"promises are not written down", Broken{Engine: shard.FaultNoPromise}, leased, 60},
		{"promises do not allow for drift", Broken{Engine: shard.FaultPromiseUnstretched}, leased, 60},
		{"leases count from the answer", Broken{Engine: shard.FaultHeldFromAnswer}, leased, 60},
		{"leases beyond those of P", Broken{Engine: shard.FaultLeaseUnbounded}, leased, 60},
		{"trap 5: P renews an expelled member's lease", Broken{Engine: shard.FaultRenewExpelled}, leased, 60},
		{"an unknown outcome is taken for success", Broken{Engine: shard.FaultUnknownIsDone}, leased, 60},
		{"E is not kept", Broken{Engine: shard.FaultStaleInSync}, leased, 60},
		{"no checksum", Broken{Store: store.FaultNoChecksum}, nil, 60},
		{"unstable versions in the index", Broken{Store: store.FaultInstallUnstable}, nil, 60},
		{"no drain before a read", Broken{Store: store.FaultNoDrain}, nil, 60},
		{"pending versions overlooked", Broken{Store: store.FaultNoPending}, nil, 60},
		{"an older version for a missing one", Broken{Store: store.FaultOlder}, nil, 60},
		{"chain: the head commits", Broken{Chain: chain.FaultHeadCommits}, func(c *Cluster) { c.Protocol = "chain"; c.Members = 3 }, 60},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			found, text := find(t, v.broken, v.cluster, v.seeds)
			if !found {
				t.Fatalf("%d seeds do not find it", v.seeds)
			}
			t.Log(text)
		})
	}
}

// leased makes the views of a cluster elastic.
func leased(c *Cluster) {
	if c.Lease == 0 {
		c.Lease, c.Patience = Duration(8e6), Duration(2e6)
	}
}

// find runs seeds until one fails.
func find(t *testing.T, broken Broken, change func(*Cluster), seeds uint64) (bool, string) {
	p := &pool{}
	for seed := range seeds {
		o := Options{Faults: DefaultFaults(), Broken: broken}
		o.Faults.Wipe = 5
		if change != nil {
			o.Faults.Cluster = clusterOf(seed)
			change(o.Faults.Cluster)
		}
		res, err := simulate(seed, &o, p)
		if err != nil {
			t.Fatal(err)
		}
		if v := res.Violation; v != nil {
			return true, res.foundBy()
		}
	}
	return false, ""
}

func (r *Result) foundBy() string {
	text := r.Violation.Error()
	return "seed " + strconv.FormatUint(r.Seed, 10) + ": " + text[:min(len(text), 160)]
}
