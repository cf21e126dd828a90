# frozen_string_literal: true

# A Rails.cache that stores what a block of fetch has read only if Redis finds that it is fresh.
#
# Keys and entries are those of Rails' own RedisCacheStore, so each can read what the other wrote. fetch and fetch_multi fill by
# cache_aside_fill, with the token of the transaction in which the block ran; write, increment and the like are as ever.
require "active_support"
require "active_support/cache"
require "active_support/cache/redis_cache_store"
require "active_support/core_ext/enumerable"
require "active_record"

class GuardedStore < ActiveSupport::Cache::RedisCacheStore
  DAY_MS = 86_400_000 # how long an entry without expires_in lives

  Reading = Struct.new(:token)

  # race_condition_ttl would put an old entry back with a plain SET, so it is left out.
  def fetch(name, options = nil)
    return super unless block_given?
    reading = Reading.new
    super(name, (options || {}).merge(reading: reading, race_condition_ttl: nil)) do |*arguments|
      in_one_snapshot(reading) { yield(*arguments) }
    end
  end

  def fetch_multi(*names, &block)
    options = names.extract_options!
    found = read_multi(*names, options)
    names.index_with { |name| found.fetch(name) { fetch(name, options, &block) } }
  end

  private

  # The models whose connection the blocks read from, in an application with several databases.
  def database
    ActiveRecord::Base
  end

  # Value and token belong to one transaction. The token is nil if that has written. Rails' query cache may answer with what was
  # read before; of a relation that is not loaded the query is cached, not what it finds.
  def in_one_snapshot(reading)
    database.transaction do
      database.uncached do
        value = yield
        value.load if value.is_a?(ActiveRecord::Relation)
        reading.token = database.connection.select_value("SELECT cache_aside.read_token()")
        value
      end
    end
  end

  def write_entry(key, entry, reading: nil, **options)
    return super(key, entry, **options) unless reading
    return false unless reading.token
    ttl = options[:expires_in] ? (options[:expires_in].to_f * 1000).ceil : DAY_MS
    value = serialize_entry(entry, raw: options[:raw])
    failsafe(:write_entry, returning: false) do
      redis.with { |c| c.call("FCALL", "cache_aside_fill", 1, key, value, ttl, reading.token) } == 1
    end
  end

  # Rails' copy of what a request has read would outlive the request's own writes.
  def local_cache
    nil
  end
end
