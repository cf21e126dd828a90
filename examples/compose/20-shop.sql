-- In the database shop, after the image made the extension in it.
CREATE TABLE users (
    id bigint PRIMARY KEY,
    name text NOT NULL
);
INSERT INTO users VALUES (42, 'Grace'), (43, 'Ada');
SELECT cache_aside.attach('users', 'user:{id}');
SELECT cache_aside.enable_versioning('users');

-- Its name is the standby's cluster_name, under which it streams.
SELECT cache_aside.add_replica('replica', 'host=replica dbname=shop');
