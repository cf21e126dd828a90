"""Writes to the master that Sentinels name, over and over, and prints the time of each write that was done."""
import sys
import time

from redis.sentinel import Sentinel

sentinels = [tuple(s.split(':')) for s in sys.argv[2].split(',')]
master = Sentinel(sentinels, socket_timeout=0.3).master_for(sys.argv[1], socket_timeout=0.3)
while True:
    try:
        master.set('cache_client:py', 1)
        print('%.4f' % time.time(), flush=True)
    except Exception:
        pass
    time.sleep(0.01)
