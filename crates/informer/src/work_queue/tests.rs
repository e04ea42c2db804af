//! The queue's contract, in virtual time.

use super::*;

fn queue() -> WorkQueue<&'static str> {
    WorkQueue::new("test", Clock::system())
}

#[tokio::test]
async fn a_key_that_waits_is_not_added_twice_and_keys_come_in_order() {
    let queue = queue();
    for key in ["a", "b", "a", "c", "b"] {
        queue.add(key);
    }
    assert_eq!(queue.len(), 3);
    assert_eq!(queue.get().await, Some("a"));
    assert_eq!(queue.get().await, Some("b"));
    assert_eq!(queue.get().await, Some("c"));
}

#[tokio::test]
async fn a_key_added_while_it_is_worked_on_comes_back_when_that_is_done() {
    let queue = queue();
    queue.add("a");
    assert_eq!(queue.get().await, Some("a"));
    queue.add("a");
    queue.add("a");
    queue.add("b");
    assert_eq!(queue.get().await, Some("b"));
    assert_eq!(queue.len(), 0);
    queue.done(&"a");
    assert_eq!(queue.get().await, Some("a"));
    queue.done(&"a");
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_key_is_worked_on_by_two_at_once_and_none_is_lost() {
    let clock = Clock::system();
    let queue = WorkQueue::new("test", clock);
    let busy = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let runs = Arc::new(Mutex::new(std::collections::HashMap::<u32, u32>::new()));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (queue, busy, runs) = (queue.clone(), busy.clone(), runs.clone());
            tokio::spawn(async move {
                while let Some(key) = queue.get().await {
                    assert!(busy.lock().insert(key), "two at once");
                    clock.sleep(Duration::from_millis(u64::from(key))).await;
                    assert!(busy.lock().remove(&key));
                    *runs.lock().entry(key).or_default() += 1;
                    queue.done(&key);
                }
            })
        })
        .collect();
    for round in 0..50 {
        for key in 0..20 {
            queue.add(key);
        }
        clock.sleep(Duration::from_millis(round % 7)).await;
    }
    queue.shut_down_with_drain().await;
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(runs.lock().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_comes_at_its_earliest_time() {
    let clock = Clock::system();
    let queue = WorkQueue::new("test", clock);
    let start = clock.instant();
    queue.add_after("a", Duration::from_secs(50));
    queue.add_after("b", Duration::from_secs(20));
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(30));
    assert!(queue.is_empty());
    assert_eq!(queue.get().await, Some("a"));
    assert_eq!(start.elapsed().as_secs(), 10);
    queue.done(&"a");
    assert_eq!(queue.get().await, Some("b"));
    assert_eq!(start.elapsed().as_secs(), 20);
    clock.sleep(Duration::from_secs(100)).await;
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_failure_doubles_the_wait_until_the_key_is_forgotten() {
    let clock = Clock::system();
    let queue = WorkQueue::new("test", clock);
    for expected in [5, 10, 20, 40] {
        let start = clock.instant();
        queue.add_rate_limited("a");
        assert_eq!(queue.get().await, Some("a"));
        queue.done(&"a");
        assert_eq!(start.elapsed().as_millis(), expected);
    }
    assert_eq!(queue.num_requeues(&"a"), 4);
    queue.forget(&"a");
    assert_eq!(queue.num_requeues(&"a"), 0);
    let start = clock.instant();
    queue.add_rate_limited("a");
    queue.get().await;
    assert_eq!(start.elapsed().as_millis(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_wait_has_an_upper_bound() {
    let limiter = RateLimiter::new(Clock::system(), RateLimit::default());
    let longest = (0..80).map(|_| limiter.when(&"a")).max();
    assert_eq!(longest, Some(Duration::from_secs(1000)));
}

#[tokio::test(start_paused = true)]
async fn all_keys_together_retry_at_the_queues_rate() {
    let clock = Clock::system();
    let queue = WorkQueue::new("test", clock);
    let start = clock.instant();
    for key in 0..200 {
        queue.add_rate_limited(key);
    }
    for _ in 0..200 {
        let key = queue.get().await.unwrap();
        queue.done(&key);
    }
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_queue_shut_down_gives_what_waits_and_takes_no_more() {
    let queue = queue();
    queue.add("a");
    queue.add_after("later", Duration::from_secs(1));
    queue.shut_down();
    queue.add("b");
    queue.add_after("c", Duration::from_secs(1));
    assert_eq!(queue.get().await, Some("a"));
    assert_eq!(queue.get().await, None);
}

#[tokio::test(start_paused = true)]
async fn every_waiting_worker_learns_of_the_shut_down() {
    let queue = queue();
    let workers: Vec<_> = (0..5)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.get().await })
        })
        .collect();
    tokio::task::yield_now().await;
    queue.shut_down();
    for worker in workers {
        assert_eq!(worker.await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_is_being_worked_on() {
    let clock = Clock::system();
    let queue = WorkQueue::new("test", clock);
    queue.add("a");
    queue.get().await;
    let worker = queue.clone();
    tokio::spawn(async move {
        clock.sleep(Duration::from_secs(3)).await;
        worker.done(&"a");
    });
    let start = clock.instant();
    queue.shut_down_with_drain().await;
    assert_eq!(start.elapsed().as_secs(), 3);
}
