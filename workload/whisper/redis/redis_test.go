package redis_test

import (
	"testing"

	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/redis"
)

func with(t testing.TB, p redis.Params) *redis.Cache {
	t.Helper()
	w, err := redis.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// small has most keys go again soon.
func small(t testing.TB) *redis.Cache {
	return with(t, redis.Params{Keys: 40, Cached: 6, Value: 60, Skew: 0.01, Sample: 2})
}

func TestLossOfPower(t *testing.T) { crashtest.Run(t, small(t), crashtest.Options{}) }

func TestDamageIsFound(t *testing.T) { crashtest.Damage(t, small(t), 12) }

func TestThreads(t *testing.T) { crashtest.Threads(t, small(t), 4, 500) }

func TestParams(t *testing.T) {
	for _, p := range []redis.Params{{Keys: -1}, {Keys: 3, Cached: 4}, {Value: 4}, {Gets: -1}, {Skew: -1}, {Sample: 100}, {Think: -1}} {
		if _, err := redis.New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	crashtest.Parameters(t, small(t), with(t, redis.Params{Keys: 40, Cached: 7, Value: 60}))
}
