import time
def test_hold(postgres, nats):
    with postgres.database("a") as d: 
        print(d)
    open("/tmp/held","w").write("x"); time.sleep(60)
def test_two(postgres, nats): pass
